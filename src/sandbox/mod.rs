//! Running programs inside a root: a user namespace with subordinate ids, then bubblewrap without
//! network and with nothing of the host writable. It does not know what the programs are for.
