// pmfs ln, clone, readlink, chmod, chown, xattr: links and attributes of files in a served volume.

#include <charconv>
#include <memory>

#include <sys/xattr.h>

#include <fmt/format.h>

#include "pmfs/pmfs.hpp"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string path, to, value;
  std::vector<std::string> paths;
  bool symbolic = false, no_follow = false, create = false, replace = false;
  Follow follow() const { return no_follow ? Follow::kNo : Follow::kYes; }
};

void done(const Context& c, const Json& j) {
  if (c.json) print_json(j);
}

void ln(const Context& c, const Options& o) {
  const Target to = parse_target(o.to);
  Volume v(to.volume);
  if (o.symbolic) {
    v.symlink(o.path, to.path);
    return done(c, {{"path", to.text()}, {"target", o.path}});
  }
  const Target from = parse_target(o.path);
  if (from.volume != to.volume) throw Error(EXDEV, to.text() + ": is on another volume; use pmfs cp");
  v.link(from.path, to.path);
  done(c, {{"path", to.text()}, {"link_to", from.text()}});
}

void clone(const Context& c, const Options& o) {
  const Target from = parse_target(o.path), to = parse_target(o.to);
  if (from.volume != to.volume) throw Error(EXDEV, to.text() + ": is on another volume; use pmfs cp");
  Volume v(from.volume);
  File source = v.open(from.path, O_RDONLY);
  const Stat st = source.stat();
  File copy = v.open(to.path, O_RDWR | O_CREAT | O_EXCL, st.mode & 07777);
  try {
    source.clone_to(0, copy, 0);
  } catch (const Error&) {
    v.unlink(to.path);
    throw;
  }
  done(c, {{"from", from.text()}, {"to", to.text()}, {"size", st.size}});
}

void readlink(const Context& c, const Options& o) {
  const Target t = parse_target(o.path);
  const std::string target = Volume(t.volume).readlink(t.path);
  if (c.json) return print_json({{"path", t.text()}, {"target", target}});
  fmt::print("{}\n", printable(target));
}

unsigned number(std::string_view text, int base, unsigned most, const char* what) {
  unsigned value = 0;
  const auto [rest, ec] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (ec != std::errc() || rest != text.data() + text.size() || value > most) {
    throw UsageError(fmt::format("{}: is not {}", text, what));
  }
  return value;
}

void change(const Context& c, const Options& o, const AttrChange& what) {
  Json paths = Json::array();
  for (const std::string& p : o.paths) {
    const Target t = parse_target(p);
    Volume(t.volume).set_attr(t.path, what, o.follow());
    paths.push_back(t.text());
  }
  done(c, {{"paths", paths}});
}

void chmod(const Context& c, const Options& o) {
  AttrChange a;
  a.mode = number(o.value, 8, 07777, "a mode; write it in octal, as 0644");
  change(c, o, a);
}

void chown(const Context& c, const Options& o) {
  constexpr const char* kWhat = "an owner; write UID, UID:GID or :GID in numbers";
  constexpr unsigned kMost = UINT32_MAX - 1;
  AttrChange a;
  const size_t colon = o.value.find(':');
  const std::string_view uid = std::string_view(o.value).substr(0, colon);
  if (!uid.empty()) a.uid = number(uid, 10, kMost, kWhat);
  if (colon != std::string::npos && colon + 1 < o.value.size()) {
    a.gid = number(std::string_view(o.value).substr(colon + 1), 10, kMost, kWhat);
  }
  if (!a.uid && !a.gid) throw UsageError(fmt::format("'{}': is not {}", o.value, kWhat));
  change(c, o, a);
}

// --- extended attributes

std::string text_of(const std::vector<std::byte>& value) {
  return {reinterpret_cast<const char*>(value.data()), value.size()};
}

void xattr_list(const Context& c, const Options& o) {
  const Target t = parse_target(o.path);
  const auto names = Volume(t.volume).list_xattrs(t.path, o.follow());
  if (c.json) return print_json({{"path", t.text()}, {"names", names}});
  for (const std::string& n : names) fmt::print("{}\n", printable(n));
}

void xattr_get(const Context& c, const Options& o) {
  const Target t = parse_target(o.path);
  const std::string value = text_of(Volume(t.volume).get_xattr(t.path, o.to, o.follow()));
  if (c.json) return print_json({{"path", t.text()}, {"name", o.to}, {"value", value}});
  std::fwrite(value.data(), 1, value.size(), stdout);  // as it is: it may be binary, and somebody's input
}

void xattr_set(const Context& c, const Options& o) {
  const Target t = parse_target(o.path);
  const int flags = o.create ? XATTR_CREATE : o.replace ? XATTR_REPLACE : 0;
  Volume(t.volume).set_xattr(t.path, o.to, std::as_bytes(std::span(o.value)), flags, o.follow());
  done(c, {{"path", t.text()}, {"name", o.to}});
}

void xattr_rm(const Context& c, const Options& o) {
  const Target t = parse_target(o.path);
  Volume(t.volume).remove_xattr(t.path, o.to, o.follow());
  done(c, {{"path", t.text()}, {"name", o.to}});
}

constexpr const char* kFile = "VOLUME_DIR:/path/in/volume";

void no_follow(CLI::App* cmd, const std::shared_ptr<Options>& o) {
  cmd->add_flag("-P,--no-dereference", o->no_follow, "a symbolic link itself, not what it points to");
}

}  // namespace

void add_names(CLI::App& app, Context& c) {
  auto o = std::make_shared<Options>();
  CLI::App* cmd = add_command(app, c, "ln", "Give a file one more name, or make a symbolic link",
                              "  pmfs ln /dev/shm/vol:/a /dev/shm/vol:/b\n"
                              "  pmfs ln -s ../a /dev/shm/vol:/dir/b    (the target is taken as it is)\n",
                              [&c, o] { ln(c, *o); });
  cmd->add_option("TARGET", o->path, "the file; with -s any text")->required();
  cmd->add_option("NAME", o->to, kFile)->required();
  cmd->add_flag("-s,--symbolic", o->symbolic, "a symbolic link");

  cmd = add_command(app, c, "clone", "Copy a file by sharing its blocks, which takes no space until either is written to",
                    "  pmfs clone /dev/shm/vol:/data.bin /dev/shm/vol:/snapshot.bin\n", [&c, o] { clone(c, *o); });
  cmd->add_option("FROM", o->path, kFile)->required();
  cmd->add_option("TO", o->to, "a name that is new")->required();

  cmd = add_command(app, c, "readlink", "Print what a symbolic link says", "  pmfs readlink /dev/shm/vol:/b\n",
                    [&c, o] { readlink(c, *o); });
  cmd->add_option("PATH", o->path, kFile)->required();

  cmd = add_command(app, c, "chmod", "Change permission bits", "  pmfs chmod 0640 /dev/shm/vol:/a\n",
                    [&c, o] { chmod(c, *o); });
  cmd->add_option("MODE", o->value, "in octal")->required();
  cmd->add_option("PATHS", o->paths, kFile)->required();

  cmd = add_command(app, c, "chown", "Change owner and group, by number", "  pmfs chown 1000:100 /dev/shm/vol:/a\n",
                    [&c, o] { chown(c, *o); });
  cmd->add_option("OWNER", o->value, "UID, UID:GID or :GID")->required();
  cmd->add_option("PATHS", o->paths, kFile)->required();
  no_follow(cmd, o);

  cmd = add_command(app, c, "getxattr", "Print the value of an extended attribute, as it is",
                    "  pmfs getxattr /dev/shm/vol:/a user.origin\n", [&c, o] { xattr_get(c, *o); });
  cmd->add_option("PATH", o->path, kFile)->required();
  cmd->add_option("NAME", o->to, "user.*, security.* or trusted.*")->required();
  no_follow(cmd, o);

  cmd = add_command(app, c, "setxattr", "Set an extended attribute",
                    "  pmfs setxattr /dev/shm/vol:/a user.origin backup\n", [&c, o] { xattr_set(c, *o); });
  cmd->add_option("PATH", o->path, kFile)->required();
  cmd->add_option("NAME", o->to, "user.*, or as root security.* and trusted.*")->required();
  cmd->add_option("VALUE", o->value, "its bytes")->required();
  auto* create = cmd->add_flag("--create", o->create, "it must be new");
  cmd->add_flag("--replace", o->replace, "it must be there")->excludes(create);
  no_follow(cmd, o);

  cmd = add_command(app, c, "listxattr", "List the names of extended attributes", "  pmfs listxattr /dev/shm/vol:/a\n",
                    [&c, o] { xattr_list(c, *o); });
  cmd->add_option("PATH", o->path, kFile)->required();
  no_follow(cmd, o);

  cmd = add_command(app, c, "rmxattr", "Remove an extended attribute",
                    "  pmfs rmxattr /dev/shm/vol:/a user.origin\n", [&c, o] { xattr_rm(c, *o); });
  cmd->add_option("PATH", o->path, kFile)->required();
  cmd->add_option("NAME", o->to, "the attribute")->required();
  no_follow(cmd, o);
}

}  // namespace pmfs::cli
