//! OCI images of commits. It knows nothing of disks and VMs.
