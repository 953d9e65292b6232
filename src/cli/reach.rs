//! How a place of builds is reached: the options that fetching and uploading have in common.

use std::path::PathBuf;

use crate::transfer::Access;

/// How the place is reached.
#[derive(Debug, clap::Args)]
pub(super) struct Reach {
    /// The S3 server (default: Amazon's).
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// The configuration of the AWS client.
    #[arg(long, value_name = "FILE")]
    aws_config_file: Option<PathBuf>,
    /// Be content with plain http.
    #[arg(long)]
    insecure: bool,
}

impl Reach {
    /// As the room of transfers has it.
    pub(super) fn access(&self, acl: Option<&str>) -> Access {
        Access {
            insecure: self.insecure,
            endpoint_url: self.endpoint_url.clone(),
            acl: acl.map(str::to_owned),
            aws_config_file: self.aws_config_file.clone(),
        }
    }
}
