//! kola's syntax for disks: `5G:mpath,4k,channel=nvme,serial=data,wwn=7`. Pure text to value.

use thiserror::Error;

/// A disk as a test or the command line asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskSpec {
    /// Size in GiB; `None` leaves the image's own (primary disks only).
    pub size_gib: Option<u32>,
    /// Sector size shown to the guest.
    pub sectors: Sectors,
    /// The bus it hangs on.
    pub channel: Channel,
    /// Whether it is reached by two paths.
    pub multipath: bool,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its world-wide name.
    pub wwn: Option<u64>,
}

/// Sector sizes shown to the guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sectors {
    /// 512 bytes, logical and physical.
    #[default]
    Native512,
    /// 512 bytes logical, 4096 physical (`512e`).
    Emulated512,
    /// 4096 bytes (`4k`).
    Native4k,
}

/// Buses a disk can hang on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Channel {
    /// virtio-blk.
    #[default]
    Virtio,
    /// virtio-scsi.
    Scsi,
    /// NVMe.
    Nvme,
}

/// What is wrong with a disk's description.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DiskSpecError {
    /// The size is not `<number>G`.
    #[error("disk `{0}`: `{1}` is no size: write it in GiB, such as `5G`")]
    Size(String, String),
    /// A disk without size, where one is needed.
    #[error("disk `{0}` has no size: write it in GiB, such as `5G{0}`")]
    NoSize(String),
    /// A word that is no option.
    #[error("disk `{0}`: unknown option `{1}` (known: mpath, 4k, 512e, channel=, serial=, wwn=)")]
    Option(String, String),
    /// A value that does not fit its option.
    #[error("disk `{0}`: option {1} cannot be `{2}`: {3}")]
    Value(String, &'static str, String, &'static str),
    /// Options that exclude each other.
    #[error("disk `{0}`: {1}")]
    Conflict(String, &'static str),
}

impl DiskSpec {
    /// Reads an additional disk: the size is required.
    pub fn parse(text: &str) -> Result<Self, DiskSpecError> {
        let spec = Self::parse_primary(text)?;
        if spec.size_gib.is_none() {
            return Err(DiskSpecError::NoSize(text.to_owned()));
        }
        Ok(spec)
    }

    /// Reads a primary disk: an empty size (`:512e`) keeps the image's.
    pub fn parse_primary(text: &str) -> Result<Self, DiskSpecError> {
        let (size, options) = text.split_once(':').unwrap_or((text, ""));
        let mut spec = Self { size_gib: parse_size(text, size)?, ..Self::default() };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            spec.apply(text, option)?;
        }
        if spec.multipath && spec.channel == Channel::Nvme {
            return Err(DiskSpecError::Conflict(text.to_owned(), "a multipath disk cannot be NVMe"));
        }
        if spec.channel == Channel::Nvme && spec.wwn.is_some() {
            return Err(DiskSpecError::Conflict(text.to_owned(), "an NVMe disk has no wwn"));
        }
        Ok(spec)
    }

    fn apply(&mut self, text: &str, option: &str) -> Result<(), DiskSpecError> {
        let bad = |name, value: &str, why| DiskSpecError::Value(text.to_owned(), name, value.to_owned(), why);
        match option.split_once('=') {
            None if option == "mpath" => self.multipath = true,
            None if option == "4k" => self.set_sectors(text, Sectors::Native4k)?,
            None if option == "512e" => self.set_sectors(text, Sectors::Emulated512)?,
            Some(("channel", "virtio")) => self.channel = Channel::Virtio,
            Some(("channel", "scsi")) => self.channel = Channel::Scsi,
            Some(("channel", "nvme")) => self.channel = Channel::Nvme,
            Some(("channel", value)) => {
                return Err(bad("channel", value, "it is one of virtio, scsi, nvme"));
            }
            Some(("serial", value)) if !value.is_empty() && value.len() <= 20 => {
                self.serial = Some(value.to_owned());
            }
            Some(("serial", value)) => return Err(bad("serial", value, "it has 1 to 20 characters")),
            Some(("wwn", value)) => {
                let number = value.parse().map_err(|_| bad("wwn", value, "it is a whole number"))?;
                self.wwn = Some(number);
            }
            _ => return Err(DiskSpecError::Option(text.to_owned(), option.to_owned())),
        }
        Ok(())
    }

    fn set_sectors(&mut self, text: &str, sectors: Sectors) -> Result<(), DiskSpecError> {
        if self.sectors != Sectors::Native512 {
            return Err(DiskSpecError::Conflict(text.to_owned(), "4k and 512e exclude each other"));
        }
        self.sectors = sectors;
        Ok(())
    }
}

fn parse_size(text: &str, size: &str) -> Result<Option<u32>, DiskSpecError> {
    if size.is_empty() {
        return Ok(None);
    }
    let number = size.strip_suffix('G').and_then(|digits| digits.parse::<u32>().ok());
    match number {
        Some(gib) if gib > 0 => Ok(Some(gib)),
        _ => Err(DiskSpecError::Size(text.to_owned(), size.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_as_tests_write_them() {
        assert_eq!(DiskSpec::parse("5G").unwrap(), DiskSpec { size_gib: Some(5), ..DiskSpec::default() });
        assert_eq!(
            DiskSpec::parse("10G:mpath,4k,channel=scsi,serial=data,wwn=7").unwrap(),
            DiskSpec {
                size_gib: Some(10),
                sectors: Sectors::Native4k,
                channel: Channel::Scsi,
                multipath: true,
                serial: Some("data".into()),
                wwn: Some(7),
            }
        );
        assert_eq!(DiskSpec::parse_primary(":512e").unwrap().sectors, Sectors::Emulated512);
    }

    #[test]
    fn wrong_disks_are_named_with_what_is_wrong() {
        let cases = [
            ("5", "disk `5`: `5` is no size: write it in GiB, such as `5G`"),
            (":4k", "disk `:4k` has no size: write it in GiB, such as `5G:4k`"),
            ("5G:fast", "disk `5G:fast`: unknown option `fast`"),
            ("5G:channel=ide", "option channel cannot be `ide`: it is one of virtio, scsi, nvme"),
            ("5G:4k,512e", "4k and 512e exclude each other"),
            ("5G:serial=", "option serial cannot be ``"),
            ("5G:wwn=x", "option wwn cannot be `x`: it is a whole number"),
            ("5G:mpath,channel=nvme", "a multipath disk cannot be NVMe"),
        ];
        for (text, expected) in cases {
            let error = DiskSpec::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
