#include "pmfs/meta/spare_names.h"

#include <algorithm>

#include "pmfs/meta/checksum.h"

namespace pmfs::meta {
namespace {

size_t bytes_of(size_t length) { return offsetof(Name, bytes) + length; }

// Before a Name of `length` is stored over it.
void snapshot_for(SpareName* s, size_t length) {
  transaction::snapshot(reinterpret_cast<std::byte*>(s), std::max(bytes_of(length), sizeof(SpareName)));
}

}  // namespace

SpareName* SpareNames::next(size_t length) const {
  const auto first = m_.root->spare_names;
  if (bytes_of(length) > SpareName::kBytes || !first) return nullptr;
  SpareName* s = m_.pop.direct(first);
  // Its place may be another object's by now, if an older list was written back: what is there then has no such sum.
  if (s->checksum != checksum_of(*s, first.off) || m_.root->spare_name_count == 0)
    fail(EUCLEAN, "the metadata is damaged: the place at {:#x} of the pool is on the list of spare names; see pmfs fsck", first.off);
  return s;
}

void SpareNames::snapshot_next(size_t length) const {
  if (SpareName* s = next(length)) snapshot_for(s, length);
}

persistent_ptr<Name> SpareNames::take(size_t length) {
  SpareName* s = next(length);
  if (s == nullptr) return make_persistent<Name>(std::max(bytes_of(length), SpareName::kBytes));
  const auto place = m_.root->spare_names;
  transaction::snapshot(&m_.root->spare_names);
  snapshot_for(s, length);
  m_.root->spare_names = s->next;
  --m_.root->spare_name_count;
  transaction::resealed(place.off, s->checksum, 0);
  return {place.off};
}

void SpareNames::snapshot(persistent_ptr<Name> name) const {
  transaction::snapshot(reinterpret_cast<std::byte*>(m_.pop.direct(name)), sizeof(SpareName));
}

void SpareNames::give(persistent_ptr<Name> name) {
  Name* n = m_.pop.direct(name);
  if (bytes_of(n->length) > SpareName::kBytes || m_.root->spare_name_count >= kMost) return delete_persistent(m_.pop, name);
  transaction::snapshot(&m_.root->spare_names);
  snapshot(name);
  const persistent_ptr<SpareName> place{name.off};
  SpareName* s = m_.pop.direct(place);
  *s = {m_.root->spare_names, 0, 0};
  reseal(place.off, &s->checksum, checksum_of(*s, place.off));
  m_.root->spare_names = place;
  ++m_.root->spare_name_count;
}

void SpareNames::check(uint64_t pool_bytes, std::vector<std::string>* findings) const {
  uint64_t n = 0;
  for (auto at = m_.root->spare_names; at && n <= kMost; at = m_.pop.direct(at)->next, ++n) {
    const bool inside = at.off % 8 == 0 && at.off < pool_bytes && SpareName::kBytes <= pool_bytes - at.off;
    if (inside && m_.pop.direct(at)->checksum == checksum_of(*m_.pop.direct(at), at.off)) continue;
    findings->push_back(fmt::format("spare names: the place at {:#x} is damaged", at.off));
    return;
  }
  if (n != m_.root->spare_name_count)
    findings->push_back(fmt::format("spare names: {} on the list, but {} counted", n, m_.root->spare_name_count));
}

uint64_t SpareNames::seals() const {
  uint64_t sum = 0;
  for (auto at = m_.root->spare_names; at; at = m_.pop.direct(at)->next) sum += seal_weight(at.off, m_.pop.direct(at)->checksum);
  return sum;
}

}  // namespace pmfs::meta
