#pragma once

namespace pmfs::fault {

// Throws Error(ENOTSUP), saying what is missing, if clients could not be served on this kernel. `uffd_device`: an
// open /dev/userfaultfd.
void probe_kernel(int uffd_device);

}  // namespace pmfs::fault
