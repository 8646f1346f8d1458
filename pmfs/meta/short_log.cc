#include "pmfs/meta/short_log.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "pmfs/base/error.h"
#include "pmfs/meta/hash.h"

namespace pmfs::meta {
namespace {

constexpr unsigned kCheckBits = 16;

}  // namespace

uint64_t ShortLog::word_of(uint64_t sequence) {
  const uint32_t c = crc32c(&sequence, sizeof sequence);
  return sequence << kCheckBits | ((c ^ c >> kCheckBits) & 0xffff);
}

ShortLog::ShortLog(PMEMobjpool* pop, std::byte* base, uint64_t pool_bytes, ShortLogMedia* log, uint64_t* word, uint32_t seed)
    : pop_(pop), base_(base), pool_bytes_(pool_bytes), log_(log), word_(word), seed_(seed), sequence_((*word >> kCheckBits) + 1) {
  if (word_of(*word >> kCheckBits) != *word)
    fail(EUCLEAN, "the metadata is damaged: the commit word {:#x} is none; see pmfs fsck", *word);
  ranges_.reserve(kMostRanges);
  actions_.reserve(kMostActions);
  made_.reserve(kMostActions);
}

uint32_t ShortLog::checksum(const ShortLogEntry& e) const {
  // Not a CRC: the data are full of CRCs of their own.
  return static_cast<uint32_t>(mixed_sum(e.data, e.bytes, mixed_sum(&e, offsetof(ShortLogEntry, checksum), seed_)));
}

void ShortLog::set_word(uint64_t sequence) {
  std::atomic_ref(*word_).store(word_of(sequence), std::memory_order_relaxed);
  pmemobj_persist(pop_, word_, sizeof *word_);
}

// Crash meanwhile: the word is the old one, so all of it is done again, with the same bytes.
void ShortLog::recover() {
  std::vector<const ShortLogEntry*> undo;
  for (size_t at = 0; at + kLine <= ShortLogMedia::kBytes;) {
    const auto* e = reinterpret_cast<const ShortLogEntry*>(log_->entries + at);
    if (e->sequence != sequence_ || e->bytes == 0 || e->bytes > kMostBytes) break;
    if (entry_bytes(e->bytes) > ShortLogMedia::kBytes - at || checksum(*e) != e->checksum) break;
    if (e->off >= pool_bytes_ || e->bytes > pool_bytes_ - e->off)
      fail(EUCLEAN, "the metadata is damaged: its undo log names {:#x}, which is not in the pool; see pmfs fsck", e->off);
    undo.push_back(e);
    at += entry_bytes(e->bytes);
  }
  if (undo.empty()) return;
  std::reverse(undo.begin(), undo.end());
  for (const ShortLogEntry* e : undo) {
    std::memcpy(base_ + e->off, e->data, e->bytes);
    pmemobj_flush(pop_, base_ + e->off, e->bytes);
  }
  pmemobj_drain(pop_);
  set_word(sequence_++);
}

void ShortLog::begin() {
  used_ = fenced_ = 0;
  held_ = false;
  ranges_.clear();
  actions_.clear();
  made_.clear();
}

void ShortLog::add(const void* p, size_t bytes) {
  auto* at = static_cast<std::byte*>(const_cast<void*>(p));
  for (const Range& r : ranges_)
    if (at >= r.begin && at + bytes <= r.begin + r.bytes) return;
  const size_t size = entry_bytes(bytes);
  // One line more: with the entry goes what ends the log, so that nothing of older transactions is taken for another one.
  if (bytes > kMostBytes || used_ + size + kLine > ShortLogMedia::kBytes || ranges_.size() == kMostRanges) throw LogFull();
  alignas(kLine) std::byte buffer[kMostBytes + 3 * kLine];
  auto* e = reinterpret_cast<ShortLogEntry*>(buffer);
  e->off = static_cast<uint64_t>(at - base_);
  e->sequence = sequence_;
  e->bytes = static_cast<uint32_t>(bytes);
  std::memcpy(e->data, at, bytes);
  e->checksum = checksum(*e);
  const size_t end = offsetof(ShortLogEntry, data) + bytes;
  std::memset(buffer + end, 0, size + kLine - end);
  pmemobj_memcpy(pop_, log_->entries + used_, buffer, size + kLine, PMEMOBJ_F_MEM_NONTEMPORAL | PMEMOBJ_F_MEM_NODRAIN);
  ranges_.push_back({at, bytes, used_});
  used_ += size;
  if (!held_) fence();
}

void ShortLog::fence() {
  held_ = false;
  if (fenced_ == used_) return;
  pmemobj_drain(pop_);
  fenced_ = used_;
}

void ShortLog::need_action() const {
  if (actions_.size() + 1 == kMostActions || ranges_.size() == kMostRanges) throw LogFull();  // one is for the word
}

uint64_t ShortLog::allocate(size_t bytes, uint64_t type, uint64_t flags) {
  need_action();
  pobj_action action;
  const PMEMoid oid = pmemobj_xreserve(pop_, &action, bytes, type, flags);
  if (oid.off == 0) return 0;
  actions_.push_back(action);
  made_.push_back(oid.off);
  ranges_.push_back({base_ + oid.off, bytes, kNone});
  return oid.off;
}

void ShortLog::release(PMEMoid oid) {
  if (const auto mine = std::find(made_.begin(), made_.end(), oid.off); mine != made_.end()) {
    const auto action = actions_.begin() + (mine - made_.begin());
    pmemobj_cancel(pop_, &*action, 1);
    actions_.erase(action);
    made_.erase(mine);
    std::erase_if(ranges_, [&](const Range& r) { return r.begin == base_ + oid.off && r.entry == kNone; });
    return;
  }
  need_action();
  pobj_action action;
  pmemobj_defer_free(pop_, oid, &action);
  actions_.push_back(action);
  made_.push_back(0);
}

bool ShortLog::commit() {
  if (ranges_.empty() && actions_.empty()) return true;
  for (const Range& r : ranges_) pmemobj_flush(pop_, r.begin, r.bytes);
  pmemobj_drain(pop_);
  if (actions_.empty()) {
    set_word(sequence_++);
    return true;
  }
  pobj_action word;
  pmemobj_set_value(pop_, &word, word_, word_of(sequence_));
  actions_.push_back(word);
  if (pmemobj_publish(pop_, actions_.data(), actions_.size()) != 0) {
    actions_.pop_back();
    return false;
  }
  ++sequence_;
  return true;
}

void ShortLog::abort() {
  for (auto r = ranges_.rbegin(); r != ranges_.rend(); ++r) {
    if (r->entry == kNone) continue;
    const auto* e = reinterpret_cast<const ShortLogEntry*>(log_->entries + r->entry);
    std::memcpy(r->begin, e->data, r->bytes);
    pmemobj_flush(pop_, r->begin, r->bytes);
  }
  if (!actions_.empty()) pmemobj_cancel(pop_, actions_.data(), actions_.size());
  // Crash before: the next open undoes it as well. After: its entries mean nothing any more.
  if (used_ == 0) return;
  pmemobj_drain(pop_);
  set_word(sequence_++);
}

}  // namespace pmfs::meta
