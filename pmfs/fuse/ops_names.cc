// FUSE: names: lookup, and what makes, moves and removes them.
#include <sys/stat.h>

#include "pmfs/fuse/ops.h"

namespace pmfs::fuse {

namespace {

void lookup(fuse_req_t req, fuse_ino_t dir, const char* name) {
  answer(req, [&](Mount& m) {
    const Leases::Grant g(m.volume().leases());
    if (const auto ino = m.nodes().find(Ino{dir}, name)) return reply_entry(req, m, *ino, Entry::kFound, g);
    fuse_entry_param none{};  // no inode: that may be believed too
    none.entry_timeout = g.seconds();
    fuse_reply_entry(req, &none);
  });
}

// The end of a file that has blocks takes as long as it has many.
void forget_one(Mount& m, Ino ino, uint64_t lookups) {
  if (m.nodes().large(ino)) m.loop().will_block();
  m.nodes().forget(ino, lookups);
}

void forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups) {
  forget_one(*static_cast<Mount*>(fuse_req_userdata(req)), Ino{ino}, lookups);
  fuse_reply_none(req);
}

void forget_multi(fuse_req_t req, size_t count, fuse_forget_data* all) {
  Mount& m = *static_cast<Mount*>(fuse_req_userdata(req));
  if (count > 16) m.loop().will_block();
  for (size_t i = 0; i < count; ++i) forget_one(m, Ino{all[i].ino}, all[i].nlookup);
  fuse_reply_none(req);
}

void reply_made(fuse_req_t req, Mount& m, Ino dir, const char* name, Entry what = Entry::kFound) {
  const Leases::Grant g(m.volume().leases());
  reply_entry(req, m, m.nodes().lookup(dir, name), what, g);
}

// The kernel has taken the umask off, unless the mount says dont_mask, which ours does not.
void mknod(fuse_req_t req, fuse_ino_t dir, const char* name, mode_t mode, dev_t) {
  answer(req, [&](Mount& m) {
    if ((mode & S_IFMT) != 0 && !S_ISREG(mode)) fail(EPERM, "{}: only files, directories and symbolic links", name);
    m.volume().store().create(Ino{dir}, name, mode & 07777, who(req));
    reply_made(req, m, Ino{dir}, name);
  });
}

void create(fuse_req_t req, fuse_ino_t dir, const char* name, mode_t mode, fuse_file_info* fi) {
  answer(req, [&](Mount& m) {
    m.volume().store().create(Ino{dir}, name, mode & 07777, who(req));
    const Leases::Grant g(m.volume().leases());
    const Ino ino = m.nodes().lookup(Ino{dir}, name);
    const fuse_entry_param e = entry_of(m, ino, Entry::kFound, g);
    fi->direct_io = 1;
    if (fuse_reply_create(req, &e, fi) != 0) m.nodes().forget(ino, 1);
  });
}

void mkdir(fuse_req_t req, fuse_ino_t dir, const char* name, mode_t mode) {
  answer(req, [&](Mount& m) {
    m.volume().store().mkdir(Ino{dir}, name, mode & 07777, who(req));
    reply_made(req, m, Ino{dir}, name);
  });
}

void symlink(fuse_req_t req, const char* target, fuse_ino_t dir, const char* name) {
  answer(req, [&](Mount& m) {
    m.volume().store().symlink(Ino{dir}, name, target, who(req));
    reply_made(req, m, Ino{dir}, name);
  });
}

void readlink(fuse_req_t req, fuse_ino_t ino) {
  answer(req, [&](Mount& m) { fuse_reply_readlink(req, m.volume().store().readlink(Ino{ino}).c_str()); });
}

void link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t dir, const char* name) {
  answer(req, [&](Mount& m) {
    m.volume().store().link(Ino{ino}, Ino{dir}, name, who(req));
    reply_made(req, m, Ino{dir}, name, Entry::kLinked);
  });
}

void unlink(fuse_req_t req, fuse_ino_t dir, const char* name) {
  answer(req, [&](Mount& m) {
    m.volume().unlink(Ino{dir}, name, who(req));
    fuse_reply_err(req, 0);
  });
}

void rmdir(fuse_req_t req, fuse_ino_t dir, const char* name) {
  answer(req, [&](Mount& m) {
    m.volume().rmdir(Ino{dir}, name, who(req));
    fuse_reply_err(req, 0);
  });
}

void rename(fuse_req_t req, fuse_ino_t from, const char* name, fuse_ino_t to, const char* new_name, unsigned flags) {
  answer(req, [&](Mount& m) {
    if (flags & ~(meta::kRenameNoReplace | meta::kRenameExchange)) fail(EINVAL, "{}: rename flags {:#x}", name, flags);
    m.volume().rename(Ino{from}, name, Ino{to}, new_name, flags, who(req));
    fuse_reply_err(req, 0);
  });
}

}  // namespace

fuse_entry_param entry_of(Mount& m, Ino ino, Entry what, const Leases::Grant& g) {
  const meta::InodeAttr a = m.volume().store().getattr(ino);
  fuse_entry_param e{};
  e.ino = to_u64(ino);
  e.generation = a.generation;
  e.attr = to_stat(a, m.volume().unit());
  e.entry_timeout = g.seconds();
  if (what == Entry::kFound && g) {
    e.attr_timeout = g.seconds();
    m.leased().add(ino);
  }
  return e;
}

void reply_entry(fuse_req_t req, Mount& m, Ino ino, Entry what, const Leases::Grant& g) {
  fuse_entry_param e;
  try {
    e = entry_of(m, ino, what, g);
  } catch (...) {
    m.nodes().forget(ino, 1);
    throw;
  }
  PMFS_PAUSE_POINT("fuse:entry_read");
  if (fuse_reply_entry(req, &e) != 0) m.nodes().forget(ino, 1);  // interrupted: the kernel does not know of it
}

void add_name_ops(fuse_lowlevel_ops& ops) {
  ops.lookup = lookup;
  ops.forget = forget;
  ops.forget_multi = forget_multi;
  ops.mknod = mknod;
  ops.create = create;
  ops.mkdir = mkdir;
  ops.symlink = symlink;
  ops.readlink = readlink;
  ops.link = link;
  ops.unlink = unlink;
  ops.rmdir = rmdir;
  ops.rename = rename;
}

}  // namespace pmfs::fuse
