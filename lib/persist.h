// The durability instructions, chosen once per process by libpmem2 for its CPU.
#pragma once

namespace pmfs {

void choose_persist_functions();  // idempotent; after it persist() makes no system call, not even the first time

}  // namespace pmfs
