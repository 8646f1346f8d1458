#include "tests/exerciser/runner.h"

#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "tests/exerciser/model.h"

namespace pmfs::exerciser {

namespace {

// A mapped access inside of a file must not raise SIGBUS; one that does is a failure like another.
sigjmp_buf g_bus;
volatile sig_atomic_t g_mapped_access = 0;

void on_bus(int sig) {
  if (g_mapped_access) siglongjmp(g_bus, 1);
  ::signal(sig, SIG_DFL);
  ::raise(sig);
}

void copy_mapped(void* to, const void* from, size_t n) {
  struct sigaction sa {}, old {};
  sa.sa_handler = on_bus;
  sigemptyset(&sa.sa_mask);
  sigaction(SIGBUS, &sa, &old);
  const bool raised = sigsetjmp(g_bus, 1) != 0;
  if (!raised) {
    g_mapped_access = 1;
    std::memcpy(to, from, n);
  }
  g_mapped_access = 0;
  sigaction(SIGBUS, &old, nullptr);
  if (raised) throw std::runtime_error("SIGBUS inside of the file");
}

void differ(const char* where, FileIndex f, uint64_t offset, std::span<const std::byte> got, std::span<const std::byte> want) {
  if (got.size() != want.size()) {
    throw std::runtime_error(std::string(where) + ": file " + std::to_string(f.v) + " at " + std::to_string(offset) + ": " +
                             std::to_string(got.size()) + " bytes, not " + std::to_string(want.size()));
  }
  if (std::equal(got.begin(), got.end(), want.begin())) return;
  const auto i = static_cast<size_t>(std::mismatch(got.begin(), got.end(), want.begin()).first - got.begin());
  throw std::runtime_error(std::string(where) + ": file " + std::to_string(f.v) + ", byte " + std::to_string(offset + i) + " is " +
                           std::to_string(unsigned(got[i])) + ", not " + std::to_string(unsigned(want[i])));
}

void expect(const char* where, uint64_t got, uint64_t want) {
  if (got != want) throw std::runtime_error(std::string(where) + ": " + std::to_string(got) + ", not " + std::to_string(want));
}

class Run {
 public:
  explicit Run(Target& t) : t_(t), buffer_(kMaxBytes + kPage) {}

  bool step(const Op& op) {
    set_turn(op.seed);
    if (!t_.can(op.kind) || !model_.valid(op)) return false;
    execute(op);
    model_.apply(op);
    for (const FileIndex f : {op.file, op.other}) expect("size", t_.size(f), model_.size(f));
    return true;
  }

  void compare() {
    for (uint8_t f = 0; f < kFiles; ++f) {
      const FileIndex file{f};
      const size_t n = t_.read(file, 0, buffer_);
      differ("all bytes", file, 0, std::span(buffer_).first(n), model_.bytes(file, 0, kMaxBytes));
    }
  }

 private:
  void execute(const Op& op) {
    const FileIndex f = op.file;
    const auto expected = model_.bytes(f, op.offset, op.length);
    switch (op.kind) {
      case Kind::kRead: {
        const size_t n = t_.read(f, op.offset, std::span(buffer_).first(op.length));
        differ("read", f, op.offset, std::span(buffer_).first(n), expected);
        break;
      }
      case Kind::kWrite: expect("write", t_.write(f, op.offset, bytes_of(op.seed, op.length)), op.length); break;
      case Kind::kAppend: expect("append", t_.append(f, bytes_of(op.seed, op.length)), op.length); break;
      case Kind::kTruncate: t_.truncate(f, op.offset); break;
      case Kind::kPunch: t_.fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, op.offset, op.length); break;
      case Kind::kZero: t_.fallocate(f, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, op.offset, op.length); break;
      case Kind::kZeroGrow: t_.fallocate(f, FALLOC_FL_ZERO_RANGE, op.offset, op.length); break;
      case Kind::kAllocate: t_.fallocate(f, 0, op.offset, op.length); break;
      case Kind::kAllocateKeep: t_.fallocate(f, FALLOC_FL_KEEP_SIZE, op.offset, op.length); break;
      case Kind::kCollapse: t_.fallocate(f, FALLOC_FL_COLLAPSE_RANGE, op.offset, op.length); break;
      case Kind::kInsert: t_.fallocate(f, FALLOC_FL_INSERT_RANGE, op.offset, op.length); break;
      case Kind::kCopy: {
        uint64_t done = 0;
        while (done < expected.size()) {  // it may be short, but not for ever
          const size_t n = t_.copy(f, op.offset + done, op.other, op.other_offset + done, expected.size() - done);
          if (n == 0) break;
          done += n;
        }
        expect("copy", done, expected.size());
        break;
      }
      case Kind::kClone: t_.clone(f, op.offset, op.other, op.other_offset, op.length); break;
      case Kind::kSeek: seek(op); break;
      case Kind::kMapRead:
        copy_mapped(buffer_.data(), t_.map(f) + op.offset, expected.size());
        differ("mapped read", f, op.offset, std::span(buffer_).first(expected.size()), expected);
        break;
      case Kind::kMapWrite: copy_mapped(t_.map(f) + op.offset, bytes_of(op.seed, expected.size()).data(), expected.size()); break;
      case Kind::kSync: t_.sync(f); break;
      case Kind::kReopen: t_.reopen(f); break;
    }
  }

  // Where the holes are is the target's affair; that there is nothing in them is not.
  void seek(const Op& op) {
    const uint64_t size = model_.size(op.file);
    const int64_t data = t_.seek(op.file, op.offset, SEEK_DATA), hole = t_.seek(op.file, op.offset, SEEK_HOLE);
    if (hole < int64_t(op.offset) || uint64_t(hole) > size) throw std::runtime_error("SEEK_HOLE: " + std::to_string(hole));
    const uint64_t until = data < 0 ? size : uint64_t(data);
    if (until < op.offset || until > size) throw std::runtime_error("SEEK_DATA: " + std::to_string(data));
    for (const std::byte b : model_.bytes(op.file, op.offset, until - op.offset))
      if (b != std::byte{0}) throw std::runtime_error("SEEK_DATA: " + std::to_string(data) + " is behind data");
  }

  Target& t_;
  Model model_;
  std::vector<std::byte> buffer_;
};

}  // namespace

std::optional<Failure> run(Target& t, const std::function<const Op*(size_t i)>& next, Counts* counts) {
  Run r(t);
  size_t i = 0;
  try {
    t.reset();
    for (const Op* op; (op = next(i)) != nullptr; ++i) {
      const bool done = r.step(*op);
      if (counts != nullptr) ++(done ? counts->done : counts->left_out);
      if (i % kCompareEvery == kCompareEvery - 1) r.compare();
    }
    r.compare();
  } catch (const std::exception& e) {
    return Failure{i, e.what()};
  }
  return {};
}

std::optional<Failure> run(Target& t, const std::vector<Op>& ops, Counts* counts) {
  return run(t, [&](size_t i) { return i < ops.size() ? &ops[i] : nullptr; }, counts);
}

std::vector<Op> shrink(Target& t, std::vector<Op> ops, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  // The list stays one that fails; what is behind the failure goes at once.
  auto fails = [&](std::vector<Op>& list) {
    const auto f = run(t, list);
    if (f && f->at + 1 < list.size()) list.resize(f->at + 1);
    return f.has_value();
  };
  for (size_t piece = std::max<size_t>(ops.size() / 2, 1);;) {
    bool shorter = false;
    for (size_t from = 0; from < ops.size() && Clock::now() < end;) {
      std::vector<Op> rest(ops.begin(), ops.begin() + static_cast<ptrdiff_t>(from));
      rest.insert(rest.end(), ops.begin() + static_cast<ptrdiff_t>(std::min(from + piece, ops.size())), ops.end());
      if (fails(rest)) {
        ops = std::move(rest);
        shorter = true;
      } else {
        from += piece;
      }
    }
    if (Clock::now() >= end || (piece == 1 && !shorter)) return ops;
    piece = std::max<size_t>(std::min(piece, ops.size()) / 2, 1);
  }
}

}  // namespace pmfs::exerciser
