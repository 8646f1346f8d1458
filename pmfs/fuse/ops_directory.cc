// FUSE: reading directories. An offset is the cookie of the entry before; 1 and 2 are behind "." and "..", cookies are
// larger.
#include <sys/stat.h>

#include <vector>

#include "pmfs/fuse/ops.h"

namespace pmfs::fuse {

namespace {

constexpr off_t kBehindDot = 1, kBehindDotDot = 2;
constexpr size_t kAtOnce = 128;

// One directory's entries from `offset` on, as many as fit.
class Filler {
 public:
  Filler(fuse_req_t req, Mount& m, size_t bytes, bool plus) : req_(req), mount_(m), plus_(plus), grant_(m.volume().leases()) { buffer_.reserve(bytes); }
  void fill(Ino dir, off_t offset) {
    if (offset < kBehindDot && !add_plain(".", dir, S_IFDIR, kBehindDot)) return;
    if (offset < kBehindDotDot && !add_plain("..", mount_.volume().store().parent(dir), S_IFDIR, kBehindDotDot)) return;
    uint64_t cookie = offset <= kBehindDotDot ? 0 : static_cast<uint64_t>(offset);
    for (;;) {
      const auto entries = mount_.volume().store().list(dir, cookie, kAtOnce);
      if (entries.empty()) return;
      for (const meta::DirEntry& e : entries) {
        cookie = e.cookie;
        const bool fits = plus_ ? add_known(dir, e) : add_plain(e.name.c_str(), e.ino, e.mode, static_cast<off_t>(cookie));
        if (!fits) return;
      }
    }
  }
  // The kernel knows what is in the buffer once it has it.
  void send() {
    if (fuse_reply_buf(req_, buffer_.data(), buffer_.size()) == 0) return;
    for (const Ino ino : known_) mount_.nodes().forget(ino, 1);
  }
  void give_up() {
    for (const Ino ino : known_) mount_.nodes().forget(ino, 1);
  }

 private:
  template <class Add>
  bool append(Add&& add) {
    const size_t at = buffer_.size(), room = buffer_.capacity() - at;
    const size_t need = add(nullptr, 0);
    if (need > room) return false;
    buffer_.resize(at + need);
    add(buffer_.data() + at, need);
    return true;
  }
  bool add_plain(const char* name, Ino ino, uint32_t mode, off_t next) {
    struct stat st {};
    st.st_ino = to_u64(ino);
    st.st_mode = mode;
    if (!plus_) return append([&](char* p, size_t n) { return fuse_add_direntry(req_, p, n, name, &st, next); });
    fuse_entry_param e{};  // ino 0: the kernel is told the name only
    e.attr = st;
    return append([&](char* p, size_t n) { return fuse_add_direntry_plus(req_, p, n, name, &e, next); });
  }
  bool add_known(Ino dir, const meta::DirEntry& d) {
    fuse_entry_param e{};
    try {
      const Ino ino = mount_.nodes().lookup(dir, d.name);
      known_.push_back(ino);
      e = entry_of(mount_, ino, Entry::kFound, grant_);
    } catch (const Error&) {  // gone meanwhile, or damaged: listed, and the lookup will say what is the matter
      return add_plain(d.name.c_str(), d.ino, d.mode, static_cast<off_t>(d.cookie));
    }
    const auto next = static_cast<off_t>(d.cookie);
    if (append([&](char* p, size_t n) { return fuse_add_direntry_plus(req_, p, n, d.name.c_str(), &e, next); })) return true;
    mount_.nodes().forget(known_.back(), 1);
    known_.pop_back();
    return false;
  }

  fuse_req_t req_;
  Mount& mount_;
  const bool plus_;
  const Leases::Grant grant_;  // until it is sent
  std::vector<char> buffer_;
  std::vector<Ino> known_;
};

void read(fuse_req_t req, fuse_ino_t dir, size_t bytes, off_t offset, bool plus) {
  answer(req, [&](Mount& m) {
    Filler f(req, m, bytes, plus);
    try {
      f.fill(Ino{dir}, offset);
    } catch (...) {
      f.give_up();
      throw;
    }
    f.send();
  });
}

void readdir(fuse_req_t req, fuse_ino_t dir, size_t bytes, off_t offset, fuse_file_info*) {
  read(req, dir, bytes, offset, false);
}
void readdirplus(fuse_req_t req, fuse_ino_t dir, size_t bytes, off_t offset, fuse_file_info*) {
  read(req, dir, bytes, offset, true);
}

void fsyncdir(fuse_req_t req, fuse_ino_t, int, fuse_file_info*) {
  fuse_reply_err(req, 0);  // names are durable when the call that made them returns
}

}  // namespace

void add_directory_ops(fuse_lowlevel_ops& ops) {
  ops.readdir = readdir;
  ops.readdirplus = readdirplus;
  ops.fsyncdir = fsyncdir;
}

}  // namespace pmfs::fuse
