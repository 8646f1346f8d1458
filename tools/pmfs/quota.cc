// pmfs quota, project: what users and directories of a served volume may have.

#include <memory>

#include <fmt/format.h>

#include "pmfs/pmfs.hpp"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

using Json = nlohmann::ordered_json;
constexpr uint64_t kBlock = 4096;

struct Options {
  std::string volume, path, space;
  std::optional<uint32_t> user, project;
  std::optional<uint64_t> inodes;
  bool inherit = false;
};

const char* kind_name(QuotaKind k) { return k == QuotaKind::kUser ? "user" : "project"; }

void list(const Context& c, Volume& v) {
  Json all = Json::array();
  if (!c.json) fmt::print("{:>8} {:>10} {:>12} {:>12} {:>10} {:>10}\n", "", "id", "space", "limit", "inodes", "limit");
  for (const QuotaInfo& q : v.quotas()) {
    if (c.json) {
      all.push_back({{"kind", kind_name(q.kind)}, {"id", q.id}, {"blocks", q.blocks}, {"block_limit", q.block_limit},
                     {"inodes", q.inodes}, {"inode_limit", q.inode_limit}});
      continue;
    }
    fmt::print("{:>8} {:>10} {:>12} {:>12} {:>10} {:>10}\n", kind_name(q.kind), q.id, human_size(q.blocks * kBlock),
               q.block_limit == 0 ? "-" : human_size(q.block_limit * kBlock), q.inodes,
               q.inode_limit == 0 ? "-" : std::to_string(q.inode_limit));
  }
  if (c.json) print_json({{"quotas", all}});
}

void quota(const Context& c, const Options& o) {
  Volume v(o.volume);
  if (!o.user && !o.project) {
    if (!o.space.empty() || o.inodes) throw UsageError("whose quota? name one with --user or --project");
    return list(c, v);
  }
  const QuotaKind kind = o.user ? QuotaKind::kUser : QuotaKind::kProject;
  const uint32_t id = o.user ? *o.user : *o.project;
  if (o.space.empty() && !o.inodes) throw UsageError("how much? give --space, --inodes or both; 0 is no limit");
  QuotaInfo now{kind, id, 0, 0, 0, 0};
  for (const QuotaInfo& q : v.quotas())
    if (q.kind == kind && q.id == id) now = q;
  if (!o.space.empty()) {
    const uint64_t bytes = parse_size(o.space, "--space");
    now.block_limit = bytes / kBlock + (bytes % kBlock != 0 ? 1 : 0);
  }
  if (o.inodes) now.inode_limit = *o.inodes;
  v.set_quota(kind, id, now.block_limit, now.inode_limit);
  if (c.json) {
    print_json({{"kind", kind_name(kind)}, {"id", id}, {"block_limit", now.block_limit},
                {"inode_limit", now.inode_limit}});
  }
}

void project(const Context& c, const Options& o) {
  const Target t = parse_target(o.path);
  Volume v(t.volume);
  if (o.project) v.set_project(t.path, {*o.project, o.inherit});
  const Project p = v.project(t.path);
  if (c.json) return print_json({{"path", t.text()}, {"project", p.id}, {"inherit", p.inherit}});
  if (!o.project) fmt::print("{}{}\n", p.id, p.inherit ? " inherit" : "");
}

}  // namespace

void add_quota(CLI::App& app, Context& c) {
  auto o = std::make_shared<Options>();
  CLI::App* cmd = add_command(app, c, "quota", "Show or set what users and projects may have",
                              "  pmfs quota /dev/shm/vol\n  pmfs quota /dev/shm/vol --user 1000 --space 10G\n"
                              "  pmfs quota /dev/shm/vol --project 7 --space 1G --inodes 1000\n",
                              [&c, o] { quota(c, *o); });
  cmd->add_option("VOLUME_DIR", o->volume, "a served volume")->required();
  auto* user = cmd->add_option("--user", o->user, "of the files of this user id");
  cmd->add_option("--project", o->project, "of the files of this project")->excludes(user);
  cmd->add_option("--space", o->space, "limit of their blocks: bytes, or with K, M, G or T; 0: none");
  cmd->add_option("--inodes", o->inodes, "limit of files, directories and links; 0: none");

  cmd = add_command(app, c, "project", "Show or set the project of a file or directory",
                    "  pmfs project /dev/shm/vol:/home/ann\n"
                    "  pmfs project /dev/shm/vol:/home/ann 7 --inherit    (and of all that is made in it)\n",
                    [&c, o] { project(c, *o); });
  cmd->add_option("PATH", o->path, "VOLUME_DIR:/path/in/volume")->required();
  cmd->add_option("ID", o->project, "its project from now on; 0: none");
  cmd->add_flag("--inherit", o->inherit, "a directory hands it on to what is made in it");
}

}  // namespace pmfs::cli
