#include "tools/vm/plan.h"

#include <algorithm>

#include <fmt/format.h>

namespace pmfs::powercut {
namespace {

constexpr const char* kNames[] = {"create", "write", "append", "truncate", "punch", "store+persist", "store+fsync",
                                  "rename", "unlink", "mkdir", "rmdir"};
constexpr unsigned kFileNames = 8, kDirectoryNames = 3;

bool changes_data(Kind k) {
  switch (k) {
    case Kind::kWrite:
    case Kind::kAppend:
    case Kind::kTruncate:
    case Kind::kPunch:
    case Kind::kStorePersist:
    case Kind::kStoreFsync: return true;
    default: return false;
  }
}

std::string difference(const State& found, const State& wanted) {
  for (const auto& [path, data] : wanted.files) {
    auto it = found.files.find(path);
    if (it == found.files.end()) return path + " is missing";
    if (it->second.size() != data.size()) return fmt::format("{} has {} bytes, not {}", path, it->second.size(), data.size());
    const auto at = std::mismatch(data.begin(), data.end(), it->second.begin());
    if (at.first != data.end())
      return fmt::format("{} has {:#04x} at {}, not {:#04x}", path, static_cast<unsigned>(*at.second), at.first - data.begin(),
                         static_cast<unsigned>(*at.first));
  }
  for (const auto& [path, data] : found.files)
    if (!wanted.files.contains(path)) return path + " is there";
  for (const std::string& d : wanted.directories)
    if (!found.directories.contains(d)) return d + "/ is missing";
  for (const std::string& d : found.directories)
    if (!wanted.directories.contains(d)) return d + "/ is there";
  return "nothing";
}

}  // namespace

std::string to_string(const Op& op) {
  std::string s = fmt::format("{} {}", kNames[static_cast<size_t>(op.kind)], op.path);
  if (op.kind == Kind::kRename) return s + " " + op.other;
  return changes_data(op.kind) ? fmt::format("{} {}+{}", s, op.offset, op.length) : s;
}

std::byte byte_of(uint64_t stamp, uint64_t i) {
  uint64_t x = (stamp * 0x9e3779b97f4a7c15) ^ (i * 0xd6e8feb86659fd93);
  x ^= x >> 32;
  return static_cast<std::byte>(1 + x % 255);
}

Plan::Plan(uint64_t seed, unsigned worker) : random_(seed * 64 + worker), stamps_((seed * 64 + worker) << 32) {}

Op Plan::next() {
  for (;;) {
    std::optional<Op> op = propose();
    if (!op) continue;
    State before = state_;
    apply(*op);
    if (state_ != before) return *op;
  }
}

// An operation of a random kind on random names, if it makes sense now.
std::optional<Op> Plan::propose() {
  const auto below = [this](uint64_t n) { return random_() % n; };
  const auto name = [&] {
    const uint64_t d = below(kDirectoryNames + 2);
    const std::string file = fmt::format("f{}", below(kFileNames));
    return d < kDirectoryNames && state_.directories.contains(fmt::format("d{}", d)) ? fmt::format("d{}/{}", d, file) : file;
  };
  static constexpr Kind kMix[] = {Kind::kCreate, Kind::kCreate, Kind::kWrite, Kind::kWrite, Kind::kWrite, Kind::kAppend, Kind::kAppend,
                                  Kind::kTruncate, Kind::kPunch, Kind::kStorePersist, Kind::kStorePersist, Kind::kStorePersist,
                                  Kind::kStoreFsync, Kind::kRename, Kind::kRename, Kind::kUnlink, Kind::kMkdir, Kind::kRmdir};
  Op op;
  op.kind = kMix[below(std::size(kMix))];
  op.path = name();
  op.stamp = ++stamps_;
  auto file = state_.files.find(op.path);
  const bool there = file != state_.files.end();
  const uint64_t size = there ? file->second.size() : 0;
  switch (op.kind) {
    case Kind::kCreate:
      if (there) return std::nullopt;
      return op;
    case Kind::kMkdir:
    case Kind::kRmdir: {
      op.path = fmt::format("d{}", below(kDirectoryNames));
      const bool used = std::any_of(state_.files.begin(), state_.files.end(),
                                    [&](const auto& f) { return f.first.rfind(op.path + "/", 0) == 0; });
      if (state_.directories.contains(op.path) == (op.kind == Kind::kMkdir) || used) return std::nullopt;
      return op;
    }
    case Kind::kRename:
      op.other = name();
      if (!there || op.other == op.path) return std::nullopt;
      return op;
    case Kind::kUnlink:
      if (!there) return std::nullopt;
      return op;
    case Kind::kTruncate:
      if (!there) return std::nullopt;
      op.length = below(kMaxBytes);
      return op;
    case Kind::kAppend:
      if (!there || size >= kMaxBytes) return std::nullopt;
      op.offset = size;
      op.length = 1 + below(std::min<uint64_t>(kMaxBytes - size, 9000));
      return op;
    case Kind::kWrite:
      if (!there) return std::nullopt;
      op.offset = below(kMaxBytes - 1);
      op.length = 1 + below(std::min<uint64_t>(kMaxBytes - op.offset, 20000));
      return op;
    case Kind::kPunch:
    case Kind::kStorePersist:
    case Kind::kStoreFsync:
      if (size == 0) return std::nullopt;
      op.offset = below(size);
      op.length = 1 + below(std::min<uint64_t>(size - op.offset, op.kind == Kind::kPunch ? 40000 : 6000));
      return op;
  }
  return std::nullopt;
}

void Plan::apply(const Op& op) {
  switch (op.kind) {
    case Kind::kCreate: state_.files[op.path]; return;
    case Kind::kMkdir: state_.directories.insert(op.path); return;
    case Kind::kRmdir: state_.directories.erase(op.path); return;
    case Kind::kUnlink: state_.files.erase(op.path); return;
    case Kind::kRename: {
      auto node = state_.files.extract(op.path);
      state_.files[op.other] = std::move(node.mapped());
      return;
    }
    case Kind::kTruncate: state_.files[op.path].resize(op.length); return;
    default: break;
  }
  auto& data = state_.files[op.path];
  if (data.size() < op.offset + op.length) data.resize(op.offset + op.length);
  for (uint64_t i = 0; i < op.length; ++i)
    data[op.offset + i] = op.kind == Kind::kPunch ? std::byte{0} : byte_of(op.stamp, i);
}

std::optional<std::string> judge(const State& found, const State& before, const State& after, const Op& op) {
  if (found == before || found == after) return std::nullopt;
  if (changes_data(op.kind) && found.files.contains(op.path)) {
    const auto& f = found.files.at(op.path);
    const auto& a = before.files.at(op.path);
    const auto& b = after.files.at(op.path);
    const bool truncate = op.kind == Kind::kTruncate;  // the size in one step; nothing in between
    const bool size_ok = f.size() == a.size() || f.size() == b.size() || (!truncate && f.size() > a.size() && f.size() < b.size());
    State rest = found;
    rest.files[op.path] = a;
    if (!size_ok) return fmt::format("during {}: {} bytes, neither {} nor {}", to_string(op), f.size(), a.size(), b.size());
    for (size_t i = 0; i < f.size(); ++i) {
      const bool old = i < a.size() && f[i] == a[i];
      if (!old && (i >= b.size() || f[i] != b[i]))
        return fmt::format("during {}: {:#04x} at {}", to_string(op), static_cast<unsigned>(f[i]), i);
    }
    if (rest == before) return std::nullopt;
    return fmt::format("during {}, besides its file: {}", to_string(op), difference(rest, before));
  }
  return fmt::format("neither as before {} ({}) nor as after it ({})", to_string(op), difference(found, before),
                     difference(found, after));
}

}  // namespace pmfs::powercut
