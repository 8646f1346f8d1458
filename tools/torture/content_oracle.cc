#include "tools/torture/content_oracle.h"

#include <algorithm>

#include <fmt/format.h>

namespace torture {

namespace {

uint8_t checksum(uint64_t body, unsigned word) {
  uint64_t h = (body ^ (uint64_t{word} + 1) * 0x9E3779B97F4A7C15ull) * 0xD6E8FEB86659FD93ull;
  h ^= h >> 32;
  return static_cast<uint8_t>((h * 0xD6E8FEB86659FD93ull) >> 56);
}

void raise(std::atomic<uint32_t>& word, uint32_t value) {
  uint32_t old = word.load(std::memory_order_relaxed);
  while (old < value && !word.compare_exchange_weak(old, value)) {
  }
}

}  // namespace

uint64_t encode(const Stamp& s, unsigned word) {
  uint64_t body = uint64_t{s.id} << 50 | uint64_t{s.page} << 34 | uint64_t{s.gen} << 8;
  return body | checksum(body, word);
}

bool decode(uint64_t value, unsigned word, Stamp* out) {
  *out = {static_cast<uint32_t>(value >> 50), static_cast<uint32_t>(value >> 34) & 0xffff,
          static_cast<uint32_t>(value >> 8) & kMaxEpoch};
  return out->id != 0 && checksum(value & ~uint64_t{0xff}, word) == (value & 0xff);
}

std::string describe(uint64_t value, unsigned word) {
  Stamp s;
  if (value == 0) return "zero";
  if (value == kFreedPattern) return "the pattern of a freed block";
  if (decode(value, word, &s)) return fmt::format("stamp{{file id {}, page {}, gen {}}}", s.id, s.page, s.gen);
  return fmt::format("{:#018x}, no stamp", value);
}

Expectation expect(const PageState& page, unsigned word) {
  return {std::max(page.floor.load(), page.word_floor[word].load()), page.present[word].load()};
}

const char* judge(ControlBlock* cb, unsigned area, uint64_t page, unsigned word, uint64_t value, const Expectation& e,
                  std::string* why) {
  const Area& a = cb->areas[area];
  if (value == 0) {
    // begun is read last: if it still is what it was when the store was seen to finish, nothing has touched the page.
    bool lost = e.present != 0 && cb->pages(area)[page].begun.load() + 1 == e.present && a.tainted.load() == 0;
    if (lost) *why = "zero, though a store there had finished and nothing took the page away since";
    return lost ? "lost-store" : nullptr;
  }
  if (value == kFreedPattern) {
    *why = "the pattern with which the manager fills freed blocks: this PTE points at a freed block";
    return "freed-block";
  }
  Stamp s;
  uint32_t id = a.stamp_id.load();
  if (!decode(value, word, &s)) {
    uint64_t at = page * kPage + word * kWordStride;
    if (write_in_flight(cb, area, at, at + 8)) return nullptr;
    *why = fmt::format("{}; expected zero or file id {}, page {}", describe(value, word), id, page);
    return "garbage";
  }
  if (s.id != id || s.page != page) {
    *why = fmt::format("{}, which belongs elsewhere; here is file id {}, page {}", describe(value, word), id, page);
    return s.id != id ? "other-file" : "other-page";
  }
  if (s.gen < e.floor && a.tainted.load() == 0) {
    *why = fmt::format("{}, but an invalidate of generation {} that covers it had returned before", describe(value, word),
                       e.floor);
    return "stale";
  }
  if (s.gen > cb->epoch.load()) {
    *why = fmt::format("{}, from the future (now {})", describe(value, word), cb->epoch.load());
    return "garbage";
  }
  return nullptr;
}

bool write_in_flight(const ControlBlock* cb, unsigned area, uint64_t first, uint64_t end) {
  if (cb->areas[area].tainted.load() != 0) return true;
  for (const ClientSlot& c : cb->clients) {
    const InFlight& f = c.in_flight;
    if (f.seq.load() % 2 != 0 && f.area.load() == area + 1 && f.first.load() < end && first < f.end.load()) return true;
  }
  return false;
}

SizeView view_size(const Area& a) {
  uint32_t version = a.size_version.load();
  uint64_t published = a.size_published.load();
  return {version, packed_version(published) == (version & 0xffffff), packed_size(published)};
}

bool unchanged(const Area& a, const SizeView& before) { return a.size_version.load() == before.version; }

void begin_resize(Area& a) {
  a.size_active.fetch_add(1);
  a.size_version.fetch_add(1);
}

Invalidation::Invalidation(ControlBlock* cb, unsigned self, unsigned area, uint64_t first, uint64_t end)
    : cb_(cb), area_(area), first_(first), end_(std::min(end, cb->config.file_pages * kPage)) {
  PageState* pages = cb_->pages(area_);
  for (uint64_t p = first_ / kPage; p * kPage < end_; ++p) pages[p].begun.fetch_add(1);
  gen_ = cb_->epoch.fetch_add(1) + 1;
  // Looks after it raised the epoch: who is not seen here reads an epoch >= gen_.
  for (unsigned c = 0; c < 2 * kMaxClients; ++c) {
    const InFlight& f = cb_->clients[c].in_flight;
    if (c == self || f.seq.load() % 2 == 0 || f.area.load() != area_ + 1) continue;
    busy_[busy_count_++] = {f.first.load(), f.end.load()};
  }
}

bool Invalidation::busy(uint64_t first, uint64_t end) const {
  for (unsigned i = 0; i < busy_count_; ++i)
    if (busy_[i].first < end && first < busy_[i].end) return true;
  return false;
}

void Invalidation::returned(bool partial_edges, uint64_t limit) {
  PageState* pages = cb_->pages(area_);
  uint64_t end = std::min(end_, limit);
  for (uint64_t p = first_ / kPage; p * kPage < end; ++p) {
    uint64_t at = p * kPage;
    if (busy_count_ != 0 && busy(at, at + kPage)) continue;
    // Of a mapping of units the edges are units: what is behind the end of the file in its last one is nobody's content either.
    const uint64_t unit = std::max(1u, cb_->config.map_pages) * kPage, head = at / unit * unit;
    const bool edge = first_ > head || (end < head + unit && end < cb_->config.file_pages * kPage);
    if (!edge || (partial_edges && first_ <= at && at + kPage <= end)) {
      raise(pages[p].floor, gen_);
      continue;
    }
    if (!partial_edges) continue;
    for (unsigned w = 0; w < kWords; ++w) {
      uint64_t word = at + w * kWordStride;
      if (first_ <= word && word + 8 <= end) raise(pages[p].word_floor[w], gen_);
    }
  }
}

void Invalidation::finished() {
  PageState* pages = cb_->pages(area_);
  for (uint64_t p = first_ / kPage; p * kPage < end_; ++p) pages[p].ended.fetch_add(1);
}

}  // namespace torture
