//! A QEMU machine: its arguments, its control socket, its console, its forks. It dies with its guard,
//! and knows nothing of builds, tests or Ignition.
