// An open pool and its root, as the parts of the store share it. The store's meta mutex guards all of it.
#pragma once

#include "pmfs/meta/layout.h"
#include "pmfs/meta/store.h"

namespace pmfs::meta {

struct Media {
  pool_base pop;
  Root* root;
};

int64_t now_ns();  // CLOCK_REALTIME

}  // namespace pmfs::meta
