// pmfs fsck: checks a volume that nobody serves. Manager's side: no client headers here.

#include <chrono>
#include <memory>

#include <unistd.h>

#include <fmt/format.h>

#include "pmfs/base/error.h"
#include "pmfs/fsck/fsck.h"
#include "tools/pmfs/serve.h"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string dir;
  bool repair = false, quiet = false;
};

// One line, drawn over and over, for a person at a terminal.
class Bar {
 public:
  explicit Bar(bool on) : on_(on) {}
  ~Bar() { clear(); }
  void draw(const char* phase, uint64_t done, uint64_t total) {
    auto now = std::chrono::steady_clock::now();
    if (!on_ || now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    constexpr unsigned kWide = 40;
    auto filled = static_cast<unsigned>(total == 0 ? 0 : std::min(done, total) * kWide / total);
    fmt::print(stderr, "\r{:<8} [{:#<{}}{:.<{}}] {:>3} % ", phase, "", filled, "", kWide - filled,
               filled * 100 / kWide);
    drawn_ = true;
  }
  void clear() {
    if (drawn_) fmt::print(stderr, "\r{:64}\r", "");
    drawn_ = false;
  }

 private:
  const bool on_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

std::string line_of(const fsck::Finding& f) {
  std::string s = f.what;
  if (f.ino != 0) s += fmt::format(", inode {}", f.ino);
  if (!f.path.empty()) s += fmt::format(", {}", printable(f.path));
  if (f.block) s += fmt::format(", block {}", *f.block);
  return s + ": " + printable(f.text);
}

void fsck(Context& c, const Options& o) {
  c.error_code = 8;  // operational, as e2fsck's
  Bar bar(!c.json && !o.quiet && ::isatty(STDERR_FILENO) != 0);
  fsck::Options options;
  options.repair = o.repair;
  options.progress = [&](const char* phase, uint64_t done, uint64_t total) { bar.draw(phase, done, total); };
  let_it_end(o.dir);
  const fsck::Result r = fsck::run(o.dir, options);
  bar.clear();
  c.exit_code = r.exit_code();
  if (c.json) {
    Json list = Json::array();
    for (const fsck::Finding& f : r.findings) {
      Json j{{"what", f.what}, {"text", f.text}};
      if (f.ino != 0) j["inode"] = f.ino;
      if (!f.path.empty()) j["path"] = f.path;
      if (f.block) j["block"] = *f.block;
      list.push_back(std::move(j));
    }
    return print_json({{"volume", o.dir},
                       {"findings_total", r.found},
                       {"findings", list},
                       {"repaired", r.repaired},
                       {"lost", r.lost},
                       {"kept", r.kept},
                       {"inodes", r.inodes},
                       {"directories", r.directories},
                       {"blocks_used", r.blocks_used},
                       {"blocks_total", r.blocks_total},
                       {"exit_code", r.exit_code()}});
  }
  for (const fsck::Finding& f : r.findings) fmt::print("{}\n", line_of(f));
  if (r.found > r.findings.size()) fmt::print("and {} more\n", r.found - r.findings.size());
  fmt::print("{}: {} inodes, {} of them directories, {} of {} blocks used: ", o.dir, r.inodes, r.directories,
             r.blocks_used, r.blocks_total);
  if (r.found == 0) {
    fmt::print("clean\n");
  } else if (r.repaired) {
    fmt::print("{} findings, repaired, {} things lost; the damaged metadata is kept as {}\n", r.found, r.lost, r.kept);
  } else {
    fmt::print("{} findings, nothing was changed; repair with: pmfs fsck --repair {}\n", r.found, o.dir);
  }
}

}  // namespace

void add_fsck(CLI::App& app, Context& c) {
  auto o = std::make_shared<Options>();
  CLI::App* cmd =
      add_command(app, c, "fsck", "Check a volume that is not served, and repair it",
                  "  pmfs fsck /dev/shm/vol            look only\n"
                  "  pmfs fsck --repair /dev/shm/vol   what has lost its name goes to /lost+found\n"
                  "Exit codes: 0 clean, 1 damage that was repaired, 4 damage that is still there, 8 could not\n"
                  "check (in use, or beyond repair), 16 usage.\n",
                  [&c, o] { fsck(c, *o); });
  cmd->add_option("DIR", o->dir, "directory of the volume")->required();
  cmd->add_flag("--repair", o->repair, "write what can be saved to new metadata; the old is kept as meta.damaged.N");
  cmd->add_flag("-q,--quiet", o->quiet, "no progress bar");
}

}  // namespace pmfs::cli
