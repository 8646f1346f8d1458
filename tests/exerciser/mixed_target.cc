// Two ways to the same files, taken in turn: what one changes the other must see at once.
#include <stdexcept>

#include "tests/exerciser/target.h"

namespace pmfs::exerciser {

namespace {

uint64_t g_turn = 0;

class Mixed final : public Target {
 public:
  explicit Mixed(std::vector<std::unique_ptr<Target>> ways) : ways_(std::move(ways)) {}
  bool can(Kind k) const override {
    for (const auto& w : ways_)
      if (w->can(k)) return true;
    return false;
  }
  void reset() override {
    ways_[0]->reset();
    for (size_t i = 1; i < ways_.size(); ++i)
      for (uint8_t f = 0; f < kFiles; ++f) ways_[i]->reopen(FileIndex{f});
  }
  uint64_t size(FileIndex f) override { return way(Kind::kRead).size(f); }
  size_t read(FileIndex f, uint64_t offset, std::span<std::byte> out) override { return way(Kind::kRead).read(f, offset, out); }
  size_t write(FileIndex f, uint64_t offset, std::span<const std::byte> in) override {
    return way(Kind::kWrite).write(f, offset, in);
  }
  size_t append(FileIndex f, std::span<const std::byte> in) override { return way(Kind::kAppend).append(f, in); }
  void truncate(FileIndex f, uint64_t size) override { way(Kind::kTruncate).truncate(f, size); }
  void fallocate(FileIndex f, int mode, uint64_t offset, uint64_t length) override {
    const Kind k = mode == 8 ? Kind::kCollapse : mode == 0x20 ? Kind::kInsert : mode == 0x10 ? Kind::kZeroGrow : Kind::kZero;
    way(k).fallocate(f, mode, offset, length);
  }
  size_t copy(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) override {
    way(Kind::kCopy).size(from);  // as cp does: the kernel goes by the size that it was told last
    return way(Kind::kCopy).copy(from, offset, to, to_offset, length);
  }
  void clone(FileIndex from, uint64_t offset, FileIndex to, uint64_t to_offset, uint64_t length) override {
    way(Kind::kClone).clone(from, offset, to, to_offset, length);
  }
  int64_t seek(FileIndex f, uint64_t offset, int whence) override { return way(Kind::kSeek).seek(f, offset, whence); }
  void sync(FileIndex f) override { way(Kind::kSync).sync(f); }
  void reopen(FileIndex f) override { way(Kind::kReopen).reopen(f); }
  std::byte* map(FileIndex f) override { return way(Kind::kMapRead).map(f); }

 private:
  Target& way(Kind k) {
    for (size_t i = 0; i < ways_.size(); ++i) {
      Target& w = *ways_[(turn() + i) % ways_.size()];
      if (w.can(k)) return w;
    }
    throw std::logic_error(std::string(name(k)) + ": no way can");
  }
  std::vector<std::unique_ptr<Target>> ways_;
};

}  // namespace

void set_turn(uint64_t seed) { g_turn = seed; }
uint64_t turn() { return g_turn; }

std::unique_ptr<Target> mixed_target(std::vector<std::unique_ptr<Target>> ways) {
  return std::make_unique<Mixed>(std::move(ways));
}

}  // namespace pmfs::exerciser
