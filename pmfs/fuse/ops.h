// What the operations share: from a request to the mount it belongs to, and from an Error to an errno.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <new>

#include "pmfs/base/error.h"
#include "pmfs/base/pause.h"
#include "pmfs/fuse/mount.h"

namespace pmfs::fuse {

// The groups are those of the process's that asks; only its own are looked at where a group decides.
inline meta::Credentials who(fuse_req_t req) {
  const fuse_ctx* c = fuse_req_ctx(req);
  return {c->uid, c->gid};
}

// Before data change. The kernel would do it by itself for some calls, but not for a direct write, and believes the mode that
// it knows.
inline void drop_privileges(fuse_req_t req, Mount& m, Ino ino) {
  if (m.volume().store().drop_privileges(ino, !who(req).privileged())) m.forget_attributes(ino);
}

// f(Mount&) answers the request or throws.
template <class F>
void answer(fuse_req_t req, F&& f) {
  int err = EIO;
  try {
    return f(*static_cast<Mount*>(fuse_req_userdata(req)));
  } catch (const Error& e) {
    if (e.err() != 0) err = e.err();
  } catch (const std::bad_alloc&) {
    err = ENOMEM;
  }
  fuse_reply_err(req, err);
}

struct stat to_stat(const meta::InodeAttr& a, Unit unit);
// What is answered under `g` may be believed. kLinked: not the attributes, as the kernel would take them though they have
// been taken back meanwhile (it compares the order of answers on other paths only).
enum class Entry { kFound, kLinked };
// The inode is known by one lookup more.
void reply_entry(fuse_req_t req, Mount& m, Ino ino, Entry what, const Leases::Grant& g);
// As reply_entry, for readdirplus and create: the entry alone.
fuse_entry_param entry_of(Mount& m, Ino ino, Entry what, const Leases::Grant& g);

void add_name_ops(fuse_lowlevel_ops& ops);       // ops_names.cc
void add_directory_ops(fuse_lowlevel_ops& ops);  // ops_directory.cc
void add_attr_ops(fuse_lowlevel_ops& ops);       // ops_attr.cc
void add_data_ops(fuse_lowlevel_ops& ops);       // ops_data.cc
void add_ioctl_op(fuse_lowlevel_ops& ops);       // ioctl.cc

}  // namespace pmfs::fuse
