//! OSTree repositories by nosa's own hand: objects, commits, checkouts. It knows nothing of packages,
//! OCI or disks.
