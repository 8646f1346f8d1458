#include "tools/crash/ops.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <sstream>

#include <fcntl.h>

#include <fmt/format.h>

#include "pmfs/base/error.h"
#include "pmfs/fs/block_run.h"
#include "pmfs/fs/inode_ref.h"

namespace pmfs::crash {
namespace {

struct Grammar {
  Op::Kind kind;
  const char* name;
  const char* arguments;  // p path, o other path, n offset, t offset in the other, b bytes
};
constexpr Grammar kGrammar[] = {
    {Op::kCreate, "create", "p"},       {Op::kMkdir, "mkdir", "p"},          {Op::kUnlink, "unlink", "p"},
    {Op::kRmdir, "rmdir", "p"},         {Op::kRename, "rename", "po"},       {Op::kWrite, "write", "pnb"},
    {Op::kAppend, "append", "pb"},      {Op::kStorePersist, "store", "pnb"}, {Op::kStoreFsync, "storesync", "pnb"},
    {Op::kTruncate, "truncate", "pb"},  {Op::kPunch, "punch", "pnb"},        {Op::kZeroRange, "zero", "pnb"},
    {Op::kPreallocate, "alloc", "pnb"}, {Op::kChmod, "chmod", "pb"},         {Op::kLink, "link", "po"},
    {Op::kSymlink, "symlink", "po"},    {Op::kRenameNew, "rename-new", "po"}, {Op::kExchange, "exchange", "po"},
    {Op::kCollapse, "collapse", "pnb"}, {Op::kInsert, "insert", "pnb"},      {Op::kClone, "clone", "pnotb"},
    {Op::kCopy, "copy", "pnotb"},       {Op::kSetXattr, "setxattr", "pob"},  {Op::kRemoveXattr, "rmxattr", "po"},
    {Op::kQuota, "quota", "nb"},           {Op::kGrow, "grow", "b"},
};

const Grammar& grammar_of(Op::Kind k) {
  return *std::find_if(std::begin(kGrammar), std::end(kGrammar), [&](const Grammar& g) { return g.kind == k; });
}

// Stores as a client does: a fault per run of pages makes the blocks the file's, then plain stores.
void store(MountedVolume& v, Inode& i, const Op& op, uint8_t value) {
  uint64_t end = std::min(op.offset + op.bytes, i.i_size.load());
  for (uint64_t pos = op.offset; pos < end;) {
    uint64_t in_page = pos % kBlockSize;
    BlockRun run = BlockRun::grab(v, i, pgoff_of(pos), blocks_for(in_page + (end - pos)), Wait::kBlock);
    if (run.kind() == BlockKind::kHole) run.allocate(run.count());
    run.own(run.count());
    run.zero_unwritten();
    run.commit();
    run.mark_dirty();
    size_t n = std::min(end - pos, run.count() * kBlockSize - in_page);
    std::byte* at = v.region().address(run.extent().pfn) + in_page;
    std::memset(at, value, n);
    if (op.kind == Op::kStorePersist) v.region().persist(at, n);
    pos += n;
  }
  if (op.kind == Op::kStoreFsync) v.fsync(i);
}

void data_op(MountedVolume& v, const Op& op, uint8_t value) {
  InodeRef i(v, v.open(op.path, O_RDWR, 0, 0, 0));
  switch (op.kind) {
    case Op::kWrite: v.write(*i, std::vector<std::byte>(op.bytes, std::byte{value}), op.offset); break;
    case Op::kAppend: v.append(*i, std::vector<std::byte>(op.bytes, std::byte{value})); break;
    case Op::kTruncate: v.truncate(*i, op.bytes); break;
    case Op::kPunch: v.punch(*i, op.offset, op.bytes); break;
    case Op::kZeroRange: v.zero_range(*i, op.offset, op.bytes); break;
    case Op::kPreallocate: v.preallocate(*i, op.offset, op.bytes, false); break;
    case Op::kCollapse: v.collapse(*i, op.offset, op.bytes); break;
    case Op::kInsert: v.insert(*i, op.offset, op.bytes); break;
    default: store(v, *i, op, value);
  }
}

void two_files(MountedVolume& v, const Op& op) {
  InodeRef from(v, v.open(op.path, O_RDWR, 0, 0, 0)), to(v, v.open(op.other, O_RDWR, 0, 0, 0));
  if (op.kind == Op::kClone)
    v.clone_range(*from, op.offset, *to, op.other_offset, op.bytes);
  else
    v.copy_range(*from, op.offset, *to, op.other_offset, op.bytes);
}

}  // namespace

std::string text_of(const Op& op) {
  const Grammar& g = grammar_of(op.kind);
  std::string s = g.name;
  for (const char* a = g.arguments; *a != 0; ++a) {
    if (*a == 'p') s += " " + op.path;
    if (*a == 'o') s += " " + op.other;
    if (*a == 'n') s += fmt::format(" {}", op.offset);
    if (*a == 't') s += fmt::format(" {}", op.other_offset);
    if (*a == 'b') s += fmt::format(" {}", op.bytes);
  }
  return s;
}

std::string text_of(const Workload& w) {
  std::string s;
  for (const Op& op : w) s += (s.empty() ? "" : "; ") + text_of(op);
  return s;
}

Workload parse_workload(const std::string& text) {
  Workload w;
  std::istringstream ops(text);
  for (std::string one; std::getline(ops, one, ';');) {
    std::istringstream words(one);
    std::string name;
    if (!(words >> name)) continue;
    auto g = std::find_if(std::begin(kGrammar), std::end(kGrammar), [&](const Grammar& x) { return name == x.name; });
    if (g == std::end(kGrammar)) fail(EINVAL, "workload: '{}' is no operation", name);
    Op op;
    op.kind = g->kind;
    for (const char* a = g->arguments; *a != 0; ++a) {
      std::string word;
      if (!(words >> word)) fail(EINVAL, "workload: '{}' lacks an argument", one);
      if (*a == 'p' || *a == 'o') {
        (*a == 'p' ? op.path : op.other) = word;
        continue;
      }
      uint64_t& number = *a == 'n' ? op.offset : *a == 't' ? op.other_offset : op.bytes;
      auto [end, ec] = std::from_chars(word.data(), word.data() + word.size(), number);
      if (ec != std::errc() || end != word.data() + word.size()) fail(EINVAL, "workload: '{}' is no number", word);
    }
    std::string rest;
    if (words >> rest) fail(EINVAL, "workload: '{}' has too many arguments", one);
    w.push_back(op);
  }
  if (w.empty()) fail(EINVAL, "workload: there is no operation in '{}'", text);
  return w;
}

void run_op(MountedVolume& v, const Op& op, uint8_t value) {
  try {
    switch (op.kind) {
      case Op::kCreate: {
        InodeRef i(v, v.open(op.path, O_RDWR | O_CREAT | O_EXCL, 0644, 1, 2));
      } break;
      case Op::kMkdir: v.mkdir(op.path, 0755, 1, 2); break;
      case Op::kUnlink: v.unlink(op.path); break;
      case Op::kRmdir: v.rmdir(op.path); break;
      case Op::kRename: v.rename(op.path, op.other); break;
      case Op::kLink: v.link(op.path, op.other); break;
      case Op::kSymlink: v.symlink(op.path, op.other); break;
      case Op::kRenameNew: v.rename(op.path, op.other, meta::kRenameNoReplace); break;
      case Op::kExchange: v.rename(op.path, op.other, meta::kRenameExchange); break;
      case Op::kClone:
      case Op::kCopy: two_files(v, op); break;
      case Op::kSetXattr:
        v.store().set_xattr(v.lookup(op.path), op.other, std::vector<std::byte>(op.bytes, std::byte{value}), 0, {});
        break;
      case Op::kRemoveXattr: v.store().remove_xattr(v.lookup(op.path), op.other, {}); break;
      case Op::kQuota: v.set_quota(meta::QuotaKind::kUser, static_cast<uint32_t>(op.offset), op.bytes, op.bytes); break;
      case Op::kGrow: v.grow(op.bytes); break;
      case Op::kChmod: v.store().set_mode(v.lookup(op.path), static_cast<uint32_t>(op.bytes), 3, 4); break;
      default: data_op(v, op, value);
    }
  } catch (const Error&) {
  }
}

Partial partial_of(const Op& op) {
  switch (op.kind) {
    case Op::kWrite:
    case Op::kAppend:
    case Op::kStorePersist:
    case Op::kStoreFsync:
    case Op::kTruncate:
    case Op::kPunch:
    case Op::kZeroRange:
    case Op::kPreallocate: return {op.path, {}, false};
    // Pages that a client may have mapped get other blocks first, which changes ctime only.
    case Op::kCollapse:
    case Op::kInsert: return {op.path, {}, true};
    case Op::kClone: return {op.other, op.path, true};
    case Op::kCopy: return {op.other, {}, false};
    default: return {};
  }
}

}  // namespace pmfs::crash
