#include "tools/torture/pte_oracle.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include <fmt/format.h>

#include "lib/admin.h"
#include "pmfs/base/error.h"

namespace torture {

namespace {

constexpr size_t kBatch = 4096;  // blocks asked for at once
constexpr unsigned kRestUs = 5000;
constexpr unsigned kConfirmations = 2;

enum : uint32_t { kFree = 0, kReserved = 1, kUsed = 2, kDeferred = 3, kZero = 4 };

const char* state_name(uint32_t state) {
  static constexpr const char* kNames[] = {"free", "reserved", "used", "deferred", "a zero block"};
  return state < std::size(kNames) ? kNames[state] : "?";
}

std::vector<pmfs::proto::WireBlock> ask(pmfs::Session& s, const std::vector<uint64_t>& pfns) {
  std::vector<pmfs::proto::WireBlock> out;
  for (size_t i = 0; i < pfns.size(); i += kBatch) {
    auto part = pmfs::admin::blocks(s, std::span(pfns).subspan(i, std::min(kBatch, pfns.size() - i)));
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

// What the client says it has mapped at va.
bool mapped_at(const ClientSlot& c, uint64_t va, uint64_t* ino, uint64_t* pgoff) {
  for (const MapEntry& m : c.maps) {
    uint32_t seq = m.seq.load();
    uint64_t first = m.va.load(), pages = m.pages.load();
    if (seq % 2 != 0 || pages == 0 || va < first || va >= first + pages * kPage) continue;
    *ino = m.ino.load();
    *pgoff = m.pgoff.load() + (va - first) / kPage;
    if (m.seq.load() == seq) return true;
  }
  return false;
}

}  // namespace

PteOracle::PteOracle(ControlBlock* cb, const std::string& volume) : cb_(cb), volume_(volume) {
  struct stat st{};
  std::string data = volume + "/data";
  if (stat(data.c_str(), &st) != 0) pmfs::fail(errno, "{}: {}", data, std::strerror(errno));
  dev_ = st.st_dev;
  ino_ = st.st_ino;
  acked_ = volume_.session().hello().acked != 0;
  uint64_t first = 0;
  pmfs::admin::blocks(volume_.session(), std::span(&first, 1));  // fails now if the manager has no block map
  thread_ = std::thread([this] { run(); });
}

PteOracle::~PteOracle() {
  stop_ = true;
  thread_.join();
}

std::string PteOracle::error() const { return failed_.load() ? error_ : std::string(); }

void PteOracle::run() {
  try {
    while (!stop_.load()) {
      for (unsigned c = 0; c < 2 * kMaxClients && !stop_.load(); ++c) {
        pid_t pid = cb_->clients[c].pid.load();
        if (pid == 0) continue;
        inspect(c, pid);
        usleep(kRestUs);
      }
      usleep(kRestUs);
      rounds_.fetch_add(1);
    }
  } catch (const std::exception& e) {
    error_ = e.what();
    failed_ = true;
  }
}

bool PteOracle::wrong(const ClientSlot& c, uint64_t va, const pmfs::proto::WireBlock& b) const {
  if (b.state == kFree || b.state == kReserved) return true;
  // Acked: quarantined until the client answers; the manager may be one that does not know whose it was.
  if (b.state == kDeferred) return !acked_;
  uint64_t ino = 0, pgoff = 0;
  // A mapping that is just coming or going is not in the registry; its block has an owner at least.
  if (b.ino == 0 || !mapped_at(c, va, &ino, &pgoff)) return false;
  return b.ino != ino || b.pgoff != pgoff;
}

void PteOracle::inspect(unsigned client, pid_t pid) {
  std::vector<PresentPage> present = present_pages(pid, dev_, ino_);
  pages_.fetch_add(present.size());
  std::vector<uint64_t> pfns;
  for (const PresentPage& p : present) pfns.push_back(p.pfn);
  std::vector<pmfs::proto::WireBlock> blocks = ask(volume_.session(), pfns);
  std::vector<Suspect> suspects;
  for (size_t i = 0; i < blocks.size(); ++i)
    if (wrong(cb_->clients[client], present[i].va, blocks[i])) suspects.push_back({present[i].va, present[i].pfn, blocks[i].generation});
  if (!suspects.empty()) confirm(client, pid, suspects);
}

void PteOracle::confirm(unsigned client, pid_t pid, const std::vector<Suspect>& suspects) {
  std::vector<Suspect> left = suspects;
  std::vector<pmfs::proto::WireBlock> last;
  for (unsigned round = 0; round < kConfirmations && !left.empty(); ++round) {
    std::unordered_map<uint64_t, uint64_t> now;
    for (const PresentPage& p : present_pages(pid, dev_, ino_)) now[p.va] = p.pfn;
    std::vector<uint64_t> pfns;
    for (const Suspect& s : left) pfns.push_back(s.pfn);
    last = ask(volume_.session(), pfns);
    std::vector<Suspect> still;
    std::vector<pmfs::proto::WireBlock> still_last;
    for (size_t i = 0; i < left.size(); ++i) {
      auto it = now.find(left[i].va);
      if (it == now.end() || it->second != left[i].pfn || last[i].generation != left[i].generation ||
          !wrong(cb_->clients[client], left[i].va, last[i]))
        continue;
      still.push_back(left[i]);
      still_last.push_back(last[i]);
    }
    left = std::move(still);
    last = std::move(still_last);
  }
  for (size_t i = 0; i < left.size(); ++i) {
    uint64_t ino = 0, pgoff = ~uint64_t{0};
    bool known = mapped_at(cb_->clients[client], left[i].va, &ino, &pgoff);
    unsigned file = ~0u;
    for (unsigned a = 0; a < cb_->config.files * kAreasPerFile; ++a)
      if (known && cb_->areas[a].ino.load() == ino) file = a / kAreasPerFile;
    std::string owner = last[i].state == kUsed || last[i].state == kZero
                            ? fmt::format("which belongs to ino {} page {}", last[i].ino, last[i].pgoff)
                            : fmt::format("which is {}", state_name(last[i].state));
    report_violation(cb_, client, "pte",
                     fmt::format("client {} (pid {}) has a PTE at {:#x} (ino {} page {}) on block {}, {}", client, pid,
                                 left[i].va, ino, pgoff, left[i].pfn, owner),
                     file, 0, pgoff, left[i].pfn, ino);
  }
}

}  // namespace torture
