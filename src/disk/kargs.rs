//! Kernel arguments of an image, in the order that coreos-installer and kola tests rely on.

use crate::manifest::Platform;

/// `rw`, image.yaml's `extra-kargs`, the platform's id, its own arguments, and last GRUB's variable for the
/// arguments of the first boot; `ostree=` is OSTree's own business.
#[must_use]
pub(super) fn compose(extra: &[String], platform: &str, settings: &Platform) -> Vec<String> {
    let mut kargs = vec!["rw".to_owned()];
    kargs.extend(extra.iter().cloned());
    kargs.push(format!("ignition.platform.id={}", platform_id(platform)));
    kargs.extend(settings.kernel_arguments.iter().cloned());
    kargs.push("$ignition_firstboot".to_owned());
    kargs
}

/// The name by which Ignition knows a platform: metal4k is metal with other sectors.
fn platform_id(platform: &str) -> &str {
    match platform {
        "metal4k" => "metal",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_contract() {
        let settings = Platform { kernel_arguments: vec!["console=ttyS0".into()], ..Platform::default() };
        assert_eq!(
            compose(&["mitigations=auto".into()], "qemu", &settings),
            ["rw", "mitigations=auto", "ignition.platform.id=qemu", "console=ttyS0", "$ignition_firstboot"]
        );
        assert!(compose(&[], "metal4k", &settings).contains(&"ignition.platform.id=metal".to_owned()));
    }
}
