#include "pmfs/fault/client.h"

#include "pmfs/base/error.h"

namespace pmfs::fault {

namespace {
constexpr size_t kMaxMappings = 65536;  // more than vm.max_map_count lets a process have
}

void Client::add(std::shared_ptr<Mapping> m) {
  WriterLock l(maps_mutex_);
  if (maps_.size() >= kMaxMappings) fail(ENOMEM, "client {}: has {} mappings already", id, kMaxMappings);
  auto next = maps_.lower_bound(m->va);
  bool clash = (next != maps_.end() && next->second->va < m->end_va()) ||
               (next != maps_.begin() && std::prev(next)->second->end_va() > m->va);
  if (clash) fail(EINVAL, "mapping at {:#x}: overlaps another one of this client", m->va);
  maps_.emplace(m->va, std::move(m));
}

std::shared_ptr<Mapping> Client::find(uint64_t address) const {
  ReaderLock l(maps_mutex_);
  auto it = maps_.upper_bound(address);
  if (it == maps_.begin()) return nullptr;
  --it;
  return address < it->second->end_va() ? it->second : nullptr;
}

std::shared_ptr<Mapping> Client::remove(uint64_t mapping_id) {
  WriterLock l(maps_mutex_);
  for (auto it = maps_.begin(); it != maps_.end(); ++it) {
    if (it->second->id != mapping_id) continue;
    auto m = std::move(it->second);
    maps_.erase(it);
    m->unmapped();
    return m;
  }
  return nullptr;
}

std::shared_ptr<Mapping> Client::remove_at(uint64_t va) {
  WriterLock l(maps_mutex_);
  auto it = maps_.find(va);
  if (it == maps_.end()) return nullptr;
  auto m = std::move(it->second);
  maps_.erase(it);
  m->unmapped();
  return m;
}

Client::Halves Client::split(uint64_t address, uint64_t left_id, uint64_t right_id) {
  WriterLock l(maps_mutex_);
  auto it = maps_.upper_bound(address);
  if (it == maps_.begin() || address >= std::prev(it)->second->end_va())
    fail(ENOENT, "client {}: has no mapping at {:#x}", id, address);
  --it;
  if (it->first == address) return {nullptr, it->second};
  if (maps_.size() >= kMaxMappings) fail(ENOMEM, "client {}: has {} mappings already", id, kMaxMappings);
  const std::shared_ptr<Mapping> whole = it->second;
  const Mapping::Parts parts = whole->split(whole->pgoff_at(address), left_id, right_id);
  it->second = parts[0];
  maps_.emplace_hint(std::next(it), address, parts[1]);
  return {parts[0], parts[1]};
}

std::map<uint64_t, std::shared_ptr<Mapping>> Client::remove_all() {
  WriterLock l(maps_mutex_);
  for (auto& [va, m] : maps_) m->unmapped();
  return std::move(maps_);
}

std::vector<std::shared_ptr<Mapping>> Client::mappings() const {
  ReaderLock l(maps_mutex_);
  std::vector<std::shared_ptr<Mapping>> v;
  for (auto& [va, m] : maps_) v.push_back(m);
  return v;
}

}  // namespace pmfs::fault
