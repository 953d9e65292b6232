//! The whole build, from top to bottom.
