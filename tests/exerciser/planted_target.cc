// Targets with a mistake of ours: the negative controls.
#include <linux/falloc.h>

#include <algorithm>
#include <array>

#include "tests/exerciser/target.h"

namespace pmfs::exerciser {

namespace {

// A bug is a way to pass a call on wrongly.
class Planted final : public Target {
 public:
  enum class Bug : uint8_t { kPunchEdge, kStaleTail, kShortCopy, kCollapseSize };
  Planted(std::unique_ptr<Target> t, Bug bug) : t_(std::move(t)), bug_(bug) {}
  bool can(Kind k) const override { return t_->can(k); }
  void reset() override {
    t_->reset();
    tail_ = {};
  }
  uint64_t size(FileIndex f) override { return t_->size(f); }
  size_t read(FileIndex f, uint64_t offset, std::span<std::byte> out) override { return t_->read(f, offset, out); }
  size_t write(FileIndex f, uint64_t offset, std::span<const std::byte> in) override { return t_->write(f, offset, in); }
  size_t append(FileIndex f, std::span<const std::byte> in) override { return t_->append(f, in); }
  void truncate(FileIndex f, uint64_t size) override {
    Tail& tail = tail_[f.v];
    const uint64_t old = t_->size(f);
    if (bug_ == Bug::kStaleTail && size < old && size % kPage != 0) {
      tail.at = size;
      tail.bytes.resize(std::min(old, size + kPage - size % kPage) - size);
      t_->read(f, size, tail.bytes);
    }
    t_->truncate(f, size);
    if (bug_ == Bug::kStaleTail && size > old && old == tail.at && size >= old + tail.bytes.size()) t_->write(f, old, tail.bytes);
  }
  void fallocate(FileIndex f, int mode, uint64_t offset, uint64_t length) override {
    if (bug_ == Bug::kPunchEdge && (mode & FALLOC_FL_PUNCH_HOLE)) {
      const uint64_t end = (offset + length + kPage - 1) / kPage * kPage;
      offset -= offset % kPage;
      length = end - offset;
    }
    t_->fallocate(f, mode, offset, length);
    if (bug_ == Bug::kCollapseSize && mode == FALLOC_FL_COLLAPSE_RANGE) t_->truncate(f, t_->size(f) + 1);
  }
  size_t copy(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) override {
    const bool cut = bug_ == Bug::kShortCopy && length > kPage;
    const size_t n = t_->copy(from, offset, to, to_offset, cut ? length - 1 : length);
    return cut ? n + 1 : n;
  }
  void clone(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) override {
    t_->clone(from, offset, to, to_offset, length);
  }
  int64_t seek(FileIndex f, uint64_t offset, int whence) override { return t_->seek(f, offset, whence); }
  void sync(FileIndex f) override { t_->sync(f); }
  void reopen(FileIndex f) override { t_->reopen(f); }
  std::byte* map(FileIndex f) override { return t_->map(f); }

 private:
  struct Tail {
    uint64_t at = 0;
    std::vector<std::byte> bytes;
  };
  std::unique_ptr<Target> t_;
  const Bug bug_;
  std::array<Tail, kFiles> tail_;
};

constexpr std::array<const char*, 4> kBugs{"punch-edge", "stale-tail", "short-copy", "collapse-size"};

}  // namespace

std::unique_ptr<Target> planted_target(std::unique_ptr<Target> t, const std::string& bug) {
  for (size_t i = 0; i < kBugs.size(); ++i)
    if (bug == kBugs[i]) return std::make_unique<Planted>(std::move(t), static_cast<Planted::Bug>(i));
  return nullptr;
}

std::vector<std::string> planted_bugs() { return {kBugs.begin(), kBugs.end()}; }

}  // namespace pmfs::exerciser
