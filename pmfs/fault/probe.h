#pragma once

namespace pmfs::fault {

// Throw Error(ENOTSUP), saying what is missing, if clients could not be served on this kernel. `uffd_device`: an open
// /dev/userfaultfd.
void probe_acked(int uffd_device);  // what every mode needs (Linux 6.1)
void probe_gated(int uffd_device);  // and what only gated mode does (6.4): UFFDIO_CONTINUE, write-protected
}  // namespace pmfs::fault
