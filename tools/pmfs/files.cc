// pmfs ls, stat, truncate, punch, rm, mkdir, rmdir, mv: files of a served volume.

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include <sys/stat.h>

#include <fmt/format.h>

#include "pmfs/pmfs.hpp"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string path, to, size, offset, length;
  std::vector<std::string> paths;
  bool long_form = false, force = false, parents = false, no_clobber = false, exchange = false;
};

const char* type_name(uint32_t mode) {
  return S_ISDIR(mode) ? "directory" : S_ISREG(mode) ? "file" : S_ISLNK(mode) ? "symlink" : "other";
}

// Names the target in what the volume says about one of its components.
template <class F>
auto about(const Target& t, F&& f) {
  try {
    return f();
  } catch (const Error& e) {
    if (e.message().find(t.text()) != std::string::npos) throw;
    // The volume names an inode or one component; the user knows the path.
    bool plain = false;
    for (const int err : {ENOENT, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY}) plain = plain || e.err() == err;
    const std::string cause = plain ? std::strerror(e.err()) : e.message();
    throw Error(e.err(), t.text() + ": " + cause);
  }
}

Json attributes(const Stat& st) {
  return {{"ino", st.ino},           {"type", type_name(st.mode)}, {"mode", fmt::format("{:04o}", st.mode & 07777)},
          {"nlink", st.nlink},       {"uid", st.uid},              {"gid", st.gid},
          {"size", st.size},         {"blocks", st.blocks},        {"blksize", st.blksize},        {"generation", st.generation},
          {"atime_ns", st.atime_ns}, {"mtime_ns", st.mtime_ns},    {"ctime_ns", st.ctime_ns},
          {"btime_ns", st.btime_ns}};
}

void ls(const Context& c, const Options& o) {
  const Target t = parse_target(o.path);
  Volume v(t.volume);
  Stat st = about(t, [&] { return v.stat(t.path, Follow::kNo); });
  if (S_ISLNK(st.mode) && !o.long_form && !c.json) st = about(t, [&] { return v.stat(t.path); });
  std::vector<Dirent> names;
  if (S_ISDIR(st.mode)) {
    names = about(t, [&] { return v.list(t.path); });
    std::sort(names.begin(), names.end(), [](const Dirent& a, const Dirent& b) { return a.name < b.name; });
  } else {
    names.push_back({t.name(), st.ino, st.mode});
  }
  Json all = Json::array();
  for (const Dirent& d : names) {
    if (!c.json && !o.long_form) {
      fmt::print("{}{}\n", printable(d.name), S_ISDIR(d.mode) ? "/" : "");
      continue;
    }
    Stat s;
    std::string target;
    const std::string path = S_ISDIR(st.mode) ? t.child(d.name).path : t.path;
    try {
      s = S_ISDIR(st.mode) ? v.stat(path, Follow::kNo) : st;
      if (S_ISLNK(s.mode)) target = v.readlink(path);
    } catch (const Error& e) {
      if (e.err() == ENOENT) continue;  // removed since it was listed
      throw;
    }
    if (c.json) {
      Json j = {{"name", d.name}};
      j.update(attributes(s));
      if (!target.empty()) j["target"] = target;
      all.push_back(std::move(j));
    } else {
      fmt::print("{} {:>3} {:>5} {:>5} {:>14} {} {}{}\n", mode_text(s.mode), s.nlink, s.uid, s.gid, s.size,
                 time_text(s.mtime_ns), printable(d.name), target.empty() ? "" : " -> " + printable(target));
    }
  }
  if (c.json) print_json({{"path", t.text()}, {"entries", all}});
}

void stat(const Context& c, const Options& o) {
  const Target t = parse_target(o.path);
  Volume v(t.volume);
  const Stat st = about(t, [&] { return v.stat(t.path, Follow::kNo); });
  std::vector<ExtentInfo> extents;
  if (S_ISREG(st.mode)) extents = about(t, [&] { return v.extents(t.path); });
  if (c.json) {
    Json j = {{"path", t.text()}};
    j.update(attributes(st));
    j["extents"] = Json::array();
    for (const ExtentInfo& e : extents) {
      j["extents"].push_back({{"pgoff", e.pgoff}, {"pfn", e.pfn}, {"count", e.count}, {"unwritten", e.unwritten}});
    }
    return print_json(j);
  }
  fmt::print("  path  {}\n  type  {}, mode {:04o} ({}), {} link{}, uid {}, gid {}\n", printable(t.text()),
             type_name(st.mode), st.mode & 07777, mode_text(st.mode), st.nlink, st.nlink == 1 ? "" : "s", st.uid,
             st.gid);
  fmt::print("  size  {} bytes ({}), {} blocks of 4 KiB{}\n", st.size, human_size(st.size), st.blocks,
             st.blksize > 4096 ? fmt::format(" in units of {}", human_size(st.blksize)) : "");
  fmt::print(" inode  {}, generation {}\n", st.ino, st.generation);
  fmt::print("access  {}\nmodify  {}\nchange  {}\n birth  {}\n", time_text(st.atime_ns), time_text(st.mtime_ns),
             time_text(st.ctime_ns), time_text(st.btime_ns));
  if (!S_ISREG(st.mode)) return;
  fmt::print("extents {}\n", extents.size());
  if (!extents.empty()) fmt::print("{:>14} {:>14} {:>12}\n", "file page", "block", "pages");
  for (const ExtentInfo& e : extents) {
    fmt::print("{:>14} {:>14} {:>12}{}\n", e.pgoff, e.pfn, e.count, e.unwritten ? "  unwritten" : "");
  }
}

void done(const Context& c, Json j) {
  if (c.json) print_json(j);
}

void truncate(const Context& c, const Options& o) {
  const Target t = parse_target(o.path);
  const uint64_t size = parse_size(o.size, "--size");
  Volume v(t.volume);
  about(t, [&] { v.truncate(t.path, size); });
  done(c, {{"path", t.text()}, {"size", size}});
}

void punch(const Context& c, const Options& o) {
  const Target t = parse_target(o.path);
  const uint64_t offset = parse_size(o.offset, "--offset"), length = parse_size(o.length, "--length");
  if (length == 0) throw UsageError("--length 0: a hole has at least one byte; choose a longer one");
  Volume v(t.volume);
  about(t, [&] { v.punch(t.path, offset, length); });
  done(c, {{"path", t.text()}, {"offset", offset}, {"length", length}});
}

// Does `one` to every path; with `force` a missing one is no error. The first error ends it.
void for_each(const Context& c, const Options& o, bool force,
              const std::function<void(Volume&, const Target&)>& one) {
  std::vector<Target> targets;
  for (const std::string& p : o.paths) targets.push_back(parse_target(p));
  std::unique_ptr<Volume> v;
  std::string open;
  Json paths = Json::array();
  for (const Target& t : targets) {
    if (!v || open != t.volume) v = std::make_unique<Volume>(open = t.volume);
    try {
      about(t, [&] { one(*v, t); });
      paths.push_back(t.text());
    } catch (const Error& e) {
      if (!force || e.err() != ENOENT) throw;
    }
  }
  done(c, {{"paths", paths}});
}

void make_directories(Volume& v, const Target& t) {
  for (size_t slash = 0; slash != std::string::npos;) {
    slash = t.path.find('/', slash + 1);
    const std::string part = t.path.substr(0, slash);
    if (part.empty() || part == "/") continue;
    try {
      v.mkdir(part, 0755);
    } catch (const Error& e) {
      if (e.err() != EEXIST) throw;
      if (!S_ISDIR(v.stat(part).mode)) throw Error(ENOTDIR, part + ": is not a directory");
    }
  }
}

void mv(const Context& c, const Options& o) {
  const Target from = parse_target(o.path);
  Target to = parse_target(o.to);
  std::error_code ec;
  if (from.volume != to.volume && !std::filesystem::equivalent(from.volume, to.volume, ec)) {
    throw Error(EXDEV, to.text() + ": is on another volume; use pmfs cp, then pmfs rm");
  }
  Volume v(from.volume);
  try {
    if (!o.exchange && S_ISDIR(v.stat(to.path).mode)) to = to.child(from.name());
  } catch (const Error& e) {
    if (e.err() != ENOENT) throw;
  }
  const unsigned flags = o.exchange ? RENAME_EXCHANGE : o.no_clobber ? RENAME_NOREPLACE : 0;
  about(from, [&] { v.rename(from.path, to.path, flags); });
  done(c, {{"from", from.text()}, {"to", to.text()}});
}

}  // namespace

void add_files(CLI::App& app, Context& c) {
  auto o = std::make_shared<Options>();
  constexpr const char* kFile = "VOLUME_DIR:/path/in/volume";
  CLI::App* cmd = add_command(app, c, "ls", "List a directory of a volume",
                              "  pmfs ls /dev/shm/vol:/\n  pmfs ls -l /dev/shm/vol:/logs\n", [&c, o] { ls(c, *o); });
  cmd->add_option("PATH", o->path, kFile)->required();
  cmd->add_flag("-l", o->long_form, "with mode, owner, size and time");

  cmd = add_command(app, c, "stat", "Show a file's attributes and its extents",
                    "  pmfs stat /dev/shm/vol:/data.bin\n", [&c, o] { stat(c, *o); });
  cmd->add_option("PATH", o->path, kFile)->required();

  cmd = add_command(app, c, "truncate", "Shrink or grow a file",
                    "  pmfs truncate /dev/shm/vol:/data.bin --size 10M\n", [&c, o] { truncate(c, *o); });
  cmd->add_option("PATH", o->path, kFile)->required();
  cmd->add_option("--size", o->size, "new size: bytes, or with K, M, G or T")->required();

  cmd = add_command(app, c, "punch", "Make a hole in a file; the blocks are free at once",
                    "  pmfs punch /dev/shm/vol:/data.bin --offset 1M --length 512K\n", [&c, o] { punch(c, *o); });
  cmd->add_option("PATH", o->path, kFile)->required();
  cmd->add_option("--offset", o->offset, "first byte of the hole")->required();
  cmd->add_option("--length", o->length, "its length")->required();

  cmd = add_command(app, c, "rm", "Remove files", "  pmfs rm /dev/shm/vol:/data.bin\n", [&c, o] {
    for_each(c, *o, o->force, [](Volume& v, const Target& t) { v.unlink(t.path); });
  });
  cmd->add_option("PATHS", o->paths, kFile)->required();
  cmd->add_flag("-f,--force", o->force, "a file that is not there is no error");

  cmd = add_command(app, c, "mkdir", "Make directories", "  pmfs mkdir -p /dev/shm/vol:/logs/2024\n", [&c, o] {
    for_each(c, *o, false, [o](Volume& v, const Target& t) {
      if (o->parents) return make_directories(v, t);
      v.mkdir(t.path, 0755);
    });
  });
  cmd->add_option("PATHS", o->paths, kFile)->required();
  cmd->add_flag("-p,--parents", o->parents, "with the directories above; one that exists is no error");

  cmd = add_command(app, c, "rmdir", "Remove empty directories", "  pmfs rmdir /dev/shm/vol:/logs\n", [&c, o] {
    for_each(c, *o, false, [](Volume& v, const Target& t) { v.rmdir(t.path); });
  });
  cmd->add_option("PATHS", o->paths, kFile)->required();

  cmd = add_command(app, c, "mv", "Rename a file or directory within its volume",
                    "  pmfs mv /dev/shm/vol:/a /dev/shm/vol:/b\n", [&c, o] { mv(c, *o); });
  cmd->add_option("FROM", o->path, kFile)->required();
  cmd->add_option("TO", o->to, "its new path, or a directory")->required();
  auto* keep = cmd->add_flag("-n,--no-clobber", o->no_clobber, "refused if there is something of that name");
  cmd->add_flag("--exchange", o->exchange, "both names stay and change places, in one step")->excludes(keep);
}

}  // namespace pmfs::cli
