#include "tests/exerciser/model.h"

#include <algorithm>

namespace pmfs::exerciser {

std::span<const std::byte> Model::bytes(FileIndex f, uint64_t offset, uint64_t length) const {
  const Bytes& b = at(f);
  if (offset >= b.size()) return {};
  return std::span(b).subspan(offset, std::min<uint64_t>(length, b.size() - offset));
}

bool Model::valid(const Op& op) const {
  const uint64_t size = at(op.file).size(), end = op.offset + op.length;
  const bool overlap = op.file == op.other && op.offset < op.other_offset + op.length && op.other_offset < end;
  auto on_pages = [](uint64_t n) { return n % kPage == 0; };
  switch (op.kind) {
    case Kind::kRead:
    case Kind::kPunch:
    case Kind::kZero:
    case Kind::kAllocateKeep:
    case Kind::kSync:
    case Kind::kReopen: return true;
    case Kind::kWrite:
    case Kind::kZeroGrow:
    case Kind::kAllocate: return end <= kMaxBytes;
    case Kind::kAppend: return size + op.length <= kMaxBytes;
    case Kind::kTruncate: return op.offset <= kMaxBytes;
    case Kind::kCollapse: return on_pages(op.offset) && on_pages(op.length) && end < size;
    case Kind::kInsert: return on_pages(op.offset) && on_pages(op.length) && op.offset < size && size + op.length <= kMaxBytes;
    case Kind::kCopy: {
      const uint64_t n = op.offset < size ? std::min(op.length, size - op.offset) : 0;
      return n > 0 && op.other_offset + n <= kMaxBytes && !overlap;
    }
    case Kind::kClone:
      return on_pages(op.offset) && on_pages(op.other_offset) && on_pages(op.length) && end <= size &&
             op.other_offset + op.length <= kMaxBytes && !overlap;
    case Kind::kSeek:
    case Kind::kMapRead:
    case Kind::kMapWrite: return op.offset < size;
  }
  return false;
}

void Model::put(Bytes& to, uint64_t offset, std::span<const std::byte> data) {
  if (to.size() < offset + data.size()) to.resize(offset + data.size());
  std::copy(data.begin(), data.end(), to.begin() + static_cast<ptrdiff_t>(offset));
}

void Model::apply(const Op& op) {
  Bytes& b = files_[op.file.v];
  auto zero = [&] {
    const uint64_t end = std::min<uint64_t>(b.size(), op.offset + op.length);
    if (op.offset < end) std::fill(b.begin() + static_cast<ptrdiff_t>(op.offset), b.begin() + static_cast<ptrdiff_t>(end), std::byte{0});
  };
  const auto first = static_cast<ptrdiff_t>(op.offset), last = static_cast<ptrdiff_t>(op.offset + op.length);
  switch (op.kind) {
    case Kind::kWrite: put(b, op.offset, bytes_of(op.seed, op.length)); break;
    case Kind::kAppend: put(b, b.size(), bytes_of(op.seed, op.length)); break;
    case Kind::kTruncate: b.resize(op.offset); break;
    case Kind::kZeroGrow:
    case Kind::kAllocate:
      if (b.size() < op.offset + op.length) b.resize(op.offset + op.length);
      if (op.kind == Kind::kZeroGrow) zero();
      break;
    case Kind::kPunch:
    case Kind::kZero: zero(); break;
    case Kind::kCollapse: b.erase(b.begin() + first, b.begin() + last); break;
    case Kind::kInsert: b.insert(b.begin() + first, op.length, std::byte{0}); break;
    case Kind::kCopy:
    case Kind::kClone: {
      const auto from = bytes(op.file, op.offset, op.length);
      put(files_[op.other.v], op.other_offset, Bytes(from.begin(), from.end()));
      break;
    }
    case Kind::kMapWrite: {
      const uint64_t n = std::min<uint64_t>(op.length, b.size() - op.offset);
      put(b, op.offset, bytes_of(op.seed, n));
      break;
    }
    case Kind::kRead:
    case Kind::kAllocateKeep:
    case Kind::kSeek:
    case Kind::kMapRead:
    case Kind::kSync:
    case Kind::kReopen: break;
  }
}

}  // namespace pmfs::exerciser
