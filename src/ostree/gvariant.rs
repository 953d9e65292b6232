//! The binary form of GVariant, as far as OSTree needs it.
//!
//! The rules (GLib's "GVariant Specification", in our words): a value starts at a multiple of its type's
//! alignment, counted from the start of its container. Types of fixed size are stored as they are. In a
//! container, the end of each member of varying size is noted as a *framing offset*, little-endian, after
//! the members: in order for an array, in reverse for a tuple, which omits its last member's. Offsets are
//! as wide (1, 2, 4 or 8 bytes) as the container's whole length demands. A variant is its value, a zero
//! byte and the type's signature, aligned to 8. Numbers are in the machine's order; OSTree makes
//! them big-endian.
//!
//! Decoding accepts no slack beyond bounds; callers that need one form only encode again and compare.

use anyhow::{Result, bail, ensure};

/// A type's alignment and, when it has one, its fixed size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    align: usize,
    size: Option<usize>,
}

impl Layout {
    /// Strings and arrays of bytes, and tuples and arrays of those.
    pub(super) const BYTES: Self = Self { align: 1, size: None };
    /// A 32-bit number.
    pub(super) const U32: Self = Self { align: 4, size: Some(4) };
    /// A 64-bit number.
    pub(super) const U64: Self = Self { align: 8, size: Some(8) };
    /// Variants, and all of varying size that holds variants or 64-bit numbers.
    pub(super) const EIGHT: Self = Self { align: 8, size: None };
}

/// An encoded member of a tuple.
pub(super) type Member<'a> = (Layout, &'a [u8]);

/// Encodes a string.
pub(super) fn string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// Encodes a variant from its value's encoding and signature.
pub(super) fn variant(mut value: Vec<u8>, signature: &str) -> Vec<u8> {
    value.push(0);
    value.extend_from_slice(signature.as_bytes());
    value
}

/// Encodes a tuple that has at least one member of varying size.
pub(super) fn tuple(members: &[Member<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for (index, (layout, member)) in members.iter().enumerate() {
        bytes.resize(bytes.len().next_multiple_of(layout.align), 0);
        bytes.extend_from_slice(member);
        if layout.size.is_none() && index + 1 < members.len() {
            ends.push(bytes.len());
        }
    }
    ends.reverse();
    append_offsets(&mut bytes, &ends);
    bytes
}

/// Encodes an array whose elements vary in size.
pub(super) fn array<I: IntoIterator<Item: AsRef<[u8]>>>(layout: Layout, elements: I) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for element in elements {
        bytes.resize(bytes.len().next_multiple_of(layout.align), 0);
        bytes.extend_from_slice(element.as_ref());
        ends.push(bytes.len());
    }
    append_offsets(&mut bytes, &ends);
    bytes
}

fn append_offsets(bytes: &mut Vec<u8>, ends: &[usize]) {
    let width = [1, 2, 4].into_iter().find(|width| fits(bytes.len() + ends.len() * width, *width));
    let width = width.unwrap_or(8);
    for end in ends {
        bytes.extend_from_slice(&(*end as u64).to_le_bytes()[..width]);
    }
}

const fn fits(length: usize, width: usize) -> bool {
    (length as u64) < 1 << (8 * width)
}

fn offset_width(length: usize) -> usize {
    [1, 2, 4].into_iter().find(|width| fits(length, *width)).unwrap_or(8)
}

fn offset_at(bytes: &[u8], at: usize, width: usize) -> Result<usize> {
    let Some(slice) = bytes.get(at..at + width) else { bail!("a framing offset lies outside") };
    let mut wide = [0; 8];
    wide[..width].copy_from_slice(slice);
    let offset = u64::from_le_bytes(wide) as usize;
    ensure!(offset <= bytes.len(), "a framing offset points outside");
    Ok(offset)
}

/// Splits a tuple into its members.
pub(super) fn split_tuple<const N: usize>(bytes: &[u8], layouts: [Layout; N]) -> Result<[&[u8]; N]> {
    let width = offset_width(bytes.len());
    let mut members = [&bytes[..0]; N];
    let mut frame = bytes.len();
    let mut start = 0_usize;
    for (index, layout) in layouts.into_iter().enumerate() {
        start = start.next_multiple_of(layout.align);
        let end = match layout.size {
            Some(size) => start + size,
            None if index + 1 == N => frame,
            None => {
                ensure!(frame >= width, "a tuple is too short for its framing offsets");
                frame -= width;
                offset_at(bytes, frame, width)?
            }
        };
        ensure!(start <= end && end <= frame, "a tuple's member lies outside it");
        members[index] = &bytes[start..end];
        start = end;
    }
    Ok(members)
}

/// Splits an array whose elements vary in size.
pub(super) fn split_array(bytes: &[u8], layout: Layout) -> Result<Vec<&[u8]>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let width = offset_width(bytes.len());
    ensure!(bytes.len() >= width, "an array is too short for its framing offsets");
    let frame = offset_at(bytes, bytes.len() - width, width)?;
    ensure!(
        frame < bytes.len() && (bytes.len() - frame).is_multiple_of(width),
        "an array's framing offsets do not fit it"
    );
    let count = (bytes.len() - frame) / width;
    let mut elements = Vec::with_capacity(count);
    let mut start = 0_usize;
    for index in 0..count {
        start = start.next_multiple_of(layout.align);
        let end = offset_at(bytes, frame + index * width, width)?;
        ensure!(start <= end && end <= frame, "an array's element lies outside it");
        elements.push(&bytes[start..end]);
        start = end;
    }
    Ok(elements)
}

/// Decodes a string.
pub(super) fn read_string(bytes: &[u8]) -> Result<&str> {
    match bytes.split_last() {
        Some((0, text)) if !text.contains(&0) => Ok(std::str::from_utf8(text)?),
        _ => bail!("a string has no end or a zero byte within"),
    }
}

/// Decodes a variant into its value's encoding and signature.
pub(super) fn split_variant(bytes: &[u8]) -> Result<(&[u8], &str)> {
    let Some(zero) = bytes.iter().rposition(|byte| *byte == 0) else { bail!("a variant has no type") };
    Ok((&bytes[..zero], std::str::from_utf8(&bytes[zero + 1..])?))
}

/// Decodes a big-endian 32-bit number.
pub(super) fn read_u32(bytes: &[u8]) -> Result<u32> {
    Ok(u32::from_be_bytes(bytes.try_into()?))
}

/// Decodes a big-endian 64-bit number.
pub(super) fn read_u64(bytes: &[u8]) -> Result<u64> {
    Ok(u64::from_be_bytes(bytes.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_s_examples() {
        // "Structure": ("foo", -1) without its second member's type; "String Array" i can has strings.
        let words = ["i", "can", "has", "strings?"].map(string);
        let encoded = array(Layout::BYTES, &words);
        assert_eq!(encoded, b"i\0can\0has\0strings?\0\x02\x06\x0a\x13");
        let decoded: Vec<&str> = split_array(&encoded, Layout::BYTES)
            .unwrap()
            .into_iter()
            .map(|word| read_string(word).unwrap())
            .collect();
        assert_eq!(decoded, ["i", "can", "has", "strings?"]);
    }

    #[test]
    fn offsets_widen_with_the_container() {
        for length in [0, 1, 252, 253, 254, 255, 65_530, 65_533, 70_000] {
            let element = vec![b'x'; length];
            let encoded = array(Layout::BYTES, [&element]);
            assert_eq!(split_array(&encoded, Layout::BYTES).unwrap(), [element.as_slice()], "{length}");
            let encoded = tuple(&[(Layout::BYTES, &element), (Layout::U64, &[7; 8])]);
            let [first, second] = split_tuple(&encoded, [Layout::BYTES, Layout::U64]).unwrap();
            assert_eq!((first, second), (element.as_slice(), &[7_u8; 8][..]), "{length}");
        }
    }

    #[test]
    fn broken_framing_is_an_error() {
        assert!(split_array(b"abc\xff", Layout::BYTES).is_err());
        assert!(split_array(b"\x01", Layout::BYTES).is_err());
        assert!(split_tuple(b"ab\x09", [Layout::BYTES, Layout::BYTES]).is_err());
        assert!(split_tuple(b"", [Layout::U32, Layout::BYTES]).is_err());
        assert!(read_string(b"a\0b\0").is_err() && read_string(b"").is_err() && read_string(b"a").is_err());
        assert!(split_variant(b"s").is_err());
    }
}
