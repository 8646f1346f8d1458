// Operations on ranges of addresses in which there are mappings, or pieces of them. What else is in a range is left alone.
// addr: a multiple of 4 KiB (Error EINVAL); bytes are rounded up. The manager is told first; a mapping that is cut becomes two
// there (Op::kSplit), and keeps its PTEs. ENOTCONN: no manager answers; what was not done yet is as it was.
#pragma once

#include <cstddef>

namespace pmfs {

bool any_mapped(const void* addr, size_t length);
// munmap. Pieces of one mapping, of several, or none.
void unmap_range(const void* addr, size_t length);
// The same, but the address space stays reserved (inaccessible), for who goes on to map something else there.
void release_range(const void* addr, size_t length);
// EACCES: PROT_EXEC, or PROT_WRITE of a file that was not open for reading and writing; then nothing has changed.
void protect_range(const void* addr, size_t length, int prot);
// What was stored in the range is durable, by whoever it was stored.
void sync_range(const void* addr, size_t length);
// MADV_REMOVE: the file has a hole there. EACCES: not open for writing.
void punch_range(const void* addr, size_t length);
// Whether a forked child has these (MADV_DONTFORK, MADV_DOFORK).
void set_fork(const void* addr, size_t length, bool yes);

// As mremap(2); `flags` are MREMAP_MAYMOVE and MREMAP_FIXED. old_length 0: a second mapping of the same. The contents are the
// file's, so moving is mapping anew. EFAULT: the old range is not all of one file, in order and under one protection;
// EINVAL: others flags, overlap; ENOMEM: it may not move and has no room.
void* remap_range(void* old, size_t old_length, size_t new_length, int flags, void* new_addr);

}  // namespace pmfs
