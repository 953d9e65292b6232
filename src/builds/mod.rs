//! The record of builds in a workdir, as coreos-assembler keeps it: builds.json, meta.json, versions,
//! publishing. A record, never a process: it knows no stage.
