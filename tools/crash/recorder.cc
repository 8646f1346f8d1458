#include "tools/crash/recorder.h"

#include <algorithm>
#include <cstring>

namespace pmfs::crash {

void Recorder::add_area(Area area, std::byte* base, size_t bytes) {
  areas_[static_cast<size_t>(area)] = std::make_unique<Mapped>(base, bytes);
}

void Recorder::remove_area(Area area) {
  if (!has_area(area)) return;
  capture_dirty();
  areas_[static_cast<size_t>(area)].reset();
}

Recorder::Mapped* Recorder::find(const void* p, Area* area) {
  auto* at = static_cast<const std::byte*>(p);
  for (size_t a = 0; a < kAreas; ++a) {
    Mapped* m = areas_[a].get();
    if (m == nullptr || at < m->base || at >= m->base + m->bytes) continue;
    *area = static_cast<Area>(a);
    return m;
  }
  return nullptr;
}

// The line as it is now becomes its last version, if it changed.
void Recorder::capture(Area area, Mapped& m, uint64_t line) {
  const std::byte* now = m.base + line * kLineBytes;
  auto it = pending_.find({area, line});
  const std::byte* last =
      it != pending_.end() ? it->second.versions.back().data() : m.durable.data() + line * kLineBytes;
  if (std::memcmp(now, last, kLineBytes) == 0) return;
  LineBytes bytes;
  std::memcpy(bytes.data(), now, kLineBytes);
  Pending& p = pending_[{area, line}];
  p.versions.push_back(bytes);
  p.epoch = epoch_;
}

void Recorder::capture_dirty() {
  for (size_t a = 0; a < kAreas; ++a) {
    if (areas_[a] == nullptr) continue;
    Mapped& m = *areas_[a];
    for (size_t page : m.dirty.take())
      for (uint64_t l = 0; l < kPageBytes / kLineBytes; ++l)
        capture(static_cast<Area>(a), m, page * (kPageBytes / kLineBytes) + l);
  }
}

void Recorder::flush(const void* p, size_t bytes, Via via) {
  Area area;
  Mapped* m = find(p, &area);
  if (m == nullptr || bytes == 0) return;
  if (sabotage_ == Sabotage::kDataFlush && area == Area::kData) return;
  if (sabotage_ == Sabotage::kDataOrder && area == Area::kData) return;  // end_op() makes up for it
  if (sabotage_ == Sabotage::kLogFlush && area == Area::kMeta && via == Via::kCopy) return;
  auto off = static_cast<uint64_t>(static_cast<const std::byte*>(p) - m->base);
  for (uint64_t l = off / kLineBytes; l <= (off + bytes - 1) / kLineBytes; ++l) {
    capture(area, *m, l);
    if (auto it = pending_.find({area, l}); it != pending_.end()) it->second.flushed = it->second.versions.size();
  }
}

void Recorder::add_step(bool done) {
  Step s;
  s.op = op_;
  s.done = done;
  s.data_bytes = data_bytes_;
  for (const auto& [id, p] : pending_) s.pending.push_back({id, p.versions, p.epoch != epoch_});
  steps_.push_back(std::move(s));
}

void Recorder::retire() {
  Step& s = steps_.back();
  for (auto it = pending_.begin(); it != pending_.end();) {
    auto& [id, p] = *it;
    if (p.flushed > 0) {
      const LineBytes& now = p.versions[p.flushed - 1];
      std::memcpy(areas_[static_cast<size_t>(id.area)]->durable.data() + id.number * kLineBytes, now.data(),
                  kLineBytes);
      s.durable.push_back({id, now});
      p.versions.erase(p.versions.begin(), p.versions.begin() + static_cast<ptrdiff_t>(p.flushed));
      p.flushed = 0;
    }
    it = p.versions.empty() ? pending_.erase(it) : std::next(it);
  }
}

void Recorder::fence() {
  if (!has_area(Area::kMeta) && !has_area(Area::kData)) return;
  if (sabotage_ == Sabotage::kFence && fences_++ == op_ % 7 + 1) return;
  capture_dirty();
  if (pending_.empty()) return;
  add_step(false);
  retire();
}

void Recorder::zeroing(Area area, uint64_t offset, uint64_t bytes) {
  Mapped* m = areas_[static_cast<size_t>(area)].get();
  if (m == nullptr) return;
  uint64_t first = offset / kLineBytes, count = bytes / kLineBytes;
  capture_dirty();
  add_step(false);
  steps_.back().zeroed.push_back({{area, first}, count});
  std::memset(m->durable.data() + offset, 0, bytes);
  pending_.erase(pending_.lower_bound({area, first}), pending_.lower_bound({area, first + count}));
}

void Recorder::kernel_will_store(const void* p, size_t bytes) {
  Area area;
  if (Mapped* m = find(p, &area)) m->dirty.touch(p, bytes);
}

void Recorder::data_bytes(uint64_t bytes) {
  if (has_area(Area::kData)) {
    capture_dirty();
    add_step(false);
  }
  data_bytes_ = bytes;
}

void Recorder::begin_op(uint32_t index) {
  op_ = index;
  ++epoch_;
  fences_ = 0;
}

void Recorder::end_op() {
  capture_dirty();
  if (sabotage_ == Sabotage::kDataOrder) {
    add_step(false);
    for (auto& [id, p] : pending_)
      if (id.area == Area::kData) p.flushed = p.versions.size();
    retire();
  }
  add_step(true);
}

}  // namespace pmfs::crash
