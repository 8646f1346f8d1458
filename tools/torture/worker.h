// One client process of the torture: opens and maps the shared files, touches their pages, and takes them away from
// the others. worker.cc: the loop, opening, touching. ops.cc: calls on files. pipe.cc: system
// calls on mapped memory. renew.cc: unlink, rename, fork.
#pragma once

#include <array>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tools/torture/content_oracle.h"
#include "tools/torture/control_block.h"
#include "tools/torture/fs.h"
#include "tools/torture/options.h"

namespace torture {

class Worker {
 public:
  Worker(ControlBlock* cb, unsigned index, uint64_t ordinal);
  int run();  // until told to stop; the exit code

 private:
  struct Open {
    uint64_t packed = 0;  // the FileSlot::current it belongs to
    Current current;
    std::unique_ptr<FsFile> file;
    std::unique_ptr<FsMapping> map, alias;
    uint64_t alias_page = 0;
    FileId id;
  };

  // --- opening
  Open* open_file(unsigned f);  // null: not now
  void close_file(unsigned f);
  void publish_map(unsigned entry, const FsMapping* m, uint64_t pgoff, const FileId& id);

  // --- touching memory
  void burst(unsigned f, Open& o);
  void touch(unsigned f, Open& o, uint64_t page, unsigned word, bool store, bool alias);
  void check_words(unsigned f, Open& o, uint64_t page, uint64_t bytes, const std::vector<Expectation>& before,
                   const char* what);
  std::vector<Expectation> expect_pages(const Open& o, uint64_t page, uint64_t count);
  uint64_t stamp_pages(const Open& o, uint64_t page, uint64_t count);  // fills buffer_; its size
  void set_in_flight(unsigned area, uint64_t first, uint64_t end);
  uint64_t touchable_pages(uint64_t size) const;  // of a file of so many bytes: in front of those that are SIGBUS for sure
  void check_bus(unsigned f, Open& o, const SizeView& before, uint64_t page, bool bus, bool store);

  // --- calls
  void punch(unsigned f, Open& o, bool zero_range);
  void truncate(unsigned f, Open& o);
  void read(unsigned f, Open& o);
  void write(unsigned f, Open& o);
  void append(unsigned f, Open& o);
  void remap(unsigned f, Open& o);
  void pipe_out(unsigned f, Open& o);  // the kernel reads mapped memory
  void pipe_in(unsigned f, Open& o);   // the kernel writes it
  void renew(unsigned f, Open* o, bool by_rename);  // a new incarnation of the file
  void fork_child();
  [[noreturn]] void child_main();
  // Runs `call` as an operation on an area of file f; false: it failed in a way that may happen.
  template <class F>
  bool api(unsigned f, const Open* o, OpKind op, uint64_t first, uint64_t count, uint32_t gen, const F& call);
  bool tolerate(unsigned f, const Open* o, OpKind op, int err, const std::string& message);
  template <class F>
  void resizing(Open& o, const F& call);

  // --- bookkeeping
  OpRecord* begin(OpKind op, unsigned f, uint32_t incarnation, uint64_t first, uint64_t count, uint32_t gen);
  void violation(const char* kind, const std::string& why, unsigned f, const Open& o, uint64_t page, const void* at);
  unsigned area_of(unsigned f, const Current& c) const { return f * kAreasPerFile + c.area; }
  unsigned area_of(unsigned f, const Open& o) const { return area_of(f, o.current); }
  uint64_t below(uint64_t n) { return n == 0 ? 0 : rng_() % n; }

  ControlBlock* const cb_;
  unsigned index_;  // also of the slot
  ClientSlot* me_;
  std::mt19937_64 rng_;
  std::array<uint32_t, kMixOps> weights_;
  std::unique_ptr<Fs> fs_;
  std::array<Open, kMaxFiles> open_;
  std::vector<std::byte> buffer_;
  int pipe_[2] = {-1, -1};
  bool manager_gone_ = false;
};

int worker_main(int control_fd, unsigned index, uint64_t ordinal);

// Loads or stores through a mapping; false: SIGBUS.
void catch_sigbus();
bool load_word(const std::byte* p, uint64_t* value);
bool store_word(std::byte* p, uint64_t value);
uint64_t block_at(const void* va);  // of the region, from this process's maps; ~0: none

}  // namespace torture
