//! From packages to a tree in OSTree's layout: unpacking, scripts, overlays, accounts, kernel,
//! initramfs, /var rules, normalising. It knows nothing of commits and partitions.
