#include "tests/exerciser/op.h"

#include <array>
#include <sstream>
#include <stdexcept>

namespace pmfs::exerciser {

namespace {

struct Weighted {
  const char* name;
  unsigned weight;  // of 1000 or so
};
constexpr std::array<Weighted, kKinds> kTable{{{"read", 150}, {"write", 180}, {"append", 40}, {"truncate", 60},
                                               {"punch", 70}, {"zero", 50}, {"zero-grow", 20}, {"allocate", 20},
                                               {"allocate-keep", 20}, {"collapse", 25}, {"insert", 25}, {"copy", 50},
                                               {"clone", 40}, {"seek", 40}, {"map-read", 90}, {"map-write", 90},
                                               {"sync", 10}, {"reopen", 10}}};

uint64_t below(std::mt19937_64& r, uint64_t n) { return r() % n; }

// Ends and beginnings of pages are where the mistakes are.
uint64_t some_offset(std::mt19937_64& r) {
  const uint64_t page = below(r, kMaxBytes / kPage) * kPage;
  switch (below(r, 4)) {
    case 0: return page;
    case 1: return page + below(r, 3);
    case 2: return page + kPage - 1 - below(r, 3);
    default: return page + below(r, kPage);
  }
}

uint64_t some_length(std::mt19937_64& r) {
  switch (below(r, 8)) {
    case 0: return 1 + below(r, 8);
    case 1: return kPage;
    case 2: return kPage * (1 + below(r, 8));
    case 3: return 1 + below(r, 16 * kPage);
    default: return 1 + below(r, 2 * kPage);
  }
}

}  // namespace

const char* name(Kind k) { return kTable[static_cast<size_t>(k)].name; }

std::string to_string(const Op& op) {
  std::ostringstream out;
  out << name(op.kind) << " file " << unsigned{op.file.v} << " offset " << op.offset << " length " << op.length << " to "
      << unsigned{op.other.v} << " at " << op.other_offset << " seed " << op.seed;
  return out.str();
}

std::optional<Op> parse(const std::string& line) {
  std::istringstream in(line);
  std::string kind, word[6], more;
  unsigned file = 0, other = 0;
  Op op;
  in >> kind >> word[0] >> file >> word[1] >> op.offset >> word[2] >> op.length >> word[3] >> other >> word[4] >>
      op.other_offset >> word[5] >> op.seed;
  if (!in || in >> more || file >= kFiles || other >= kFiles) return {};
  op.file.v = static_cast<uint8_t>(file);
  op.other.v = static_cast<uint8_t>(other);
  for (unsigned k = 0; k < kKinds; ++k) {
    if (kind != kTable[k].name) continue;
    op.kind = static_cast<Kind>(k);
    if (to_string(op) == line) return op;
  }
  return {};
}

std::vector<Op> parse_all(std::istream& in) {
  std::vector<Op> all;
  std::string line;
  for (unsigned n = 1; std::getline(in, line); ++n) {
    if (line.empty() || line[0] == '#') continue;
    const auto op = parse(line);
    if (!op) throw std::runtime_error("line " + std::to_string(n) + " is no operation: " + line);
    all.push_back(*op);
  }
  return all;
}

Op random_op(std::mt19937_64& r) {
  constexpr unsigned kAll = [] {
    unsigned sum = 0;
    for (const Weighted& w : kTable) sum += w.weight;
    return sum;
  }();
  Op op;
  uint64_t at = below(r, kAll);
  for (unsigned k = 0; k < kKinds; ++k) {
    if (at < kTable[k].weight) {
      op.kind = static_cast<Kind>(k);
      break;
    }
    at -= kTable[k].weight;
  }
  op.file.v = static_cast<uint8_t>(below(r, kFiles));
  op.other.v = static_cast<uint8_t>(below(r, kFiles));
  op.offset = some_offset(r);
  op.other_offset = some_offset(r);
  op.length = some_length(r);
  op.seed = below(r, 1u << 30);
  const bool pages = op.kind == Kind::kCollapse || op.kind == Kind::kInsert || op.kind == Kind::kClone;
  if (pages) {
    op.offset -= op.offset % kPage;
    op.other_offset -= op.other_offset % kPage;
    op.length = kPage * (1 + below(r, 6));
  }
  return op;
}

std::vector<std::byte> bytes_of(uint64_t seed, uint64_t length) {
  std::vector<std::byte> out(length);
  uint64_t x = seed * 0x9e3779b97f4a7c15 + 1;
  for (uint64_t i = 0; i < length; ++i) {
    if (i % 8 == 0) x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    out[i] = static_cast<std::byte>((x >> (i % 8 * 8)) | 1);  // never 0: a hole is told from data
  }
  return out;
}

}  // namespace pmfs::exerciser
