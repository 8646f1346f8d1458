// A fresh volume for a test of the store.
#pragma once

#include <catch2/catch.hpp>

#include "pmfs/base/error.h"
#include "pmfs/meta/store.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_dir.h"

namespace pmfs::meta::test {

using pmfs::test::error_of;
using pmfs::test::TempDir;

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.message();
  }
  return "";
}

class Volume {
 public:
  explicit Volume(uint64_t blocks = 65536, uint64_t pool_bytes = 0) {
    Store::format(path(), {blocks, 1, false}, pool_bytes);
    store_ = Store::open(path());
  }
  ~Volume() {
    if (!store_) return;
    auto findings = store_->check();
    for (const auto& f : findings) UNSCOPED_INFO(f);
    CHECK(findings.empty());
  }
  std::filesystem::path path() const { return dir_ / "meta"; }
  Store* operator->() const { return store_.get(); }
  Store& operator*() const { return *store_; }
  void close() { store_.reset(); }
  void open() { store_ = Store::open(path()); }
  void reopen() {
    close();
    open();
  }

  Ino file(const std::string& name) { return store_->create(kRootIno, name, 0644, 1, 2); }
  // Blocks for `count` pages from `p`, wherever they are free together.
  FileExtent add(Ino ino, uint64_t p, uint64_t count, bool unwritten = false) {
    Extent e = store_->reserve(Pfn(0), count, 1);
    FileExtent f{Pgoff(p), e.first, e.count, unwritten};
    store_->commit_extent(ino, f, std::nullopt);
    return f;
  }
  void free(Ino ino, PageRange r) {
    auto removed = store_->remove_extents(ino, r, std::nullopt);
    if (removed.id != 0) store_->finish_free(removed.id);
  }

 private:
  TempDir dir_;
  std::unique_ptr<Store> store_;
};

inline PageRange pages(uint64_t first, uint64_t end) { return {Pgoff(first), Pgoff(end)}; }
inline constexpr PageRange kWholeFile{Pgoff(0), kEndOfFile};

}  // namespace pmfs::meta::test
