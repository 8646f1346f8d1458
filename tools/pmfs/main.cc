// pmfs: makes, serves and looks at volumes of persistent memory.
//
// Exit codes: 0 done, 1 an error (one line on standard error), 2 a command line that makes no sense. fsck has its own.

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "pmfs/error.hpp"
#include "tools/pmfs/run.h"
#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

// What can be done about an error whose sentence does not say so itself.
const char* way_out(int err) {
  switch (err) {
    case ENOENT: return "see what there is with pmfs ls";
    case EEXIST: return "remove it first, or choose another name";
    case EISDIR: return "name a file in it";
    case ENOTDIR: return "name a directory";
    case ENOTEMPTY: return "remove what is in it first";
    case EACCES:
    case EPERM: return "run this as root or as the user of the manager";
    case ENOSPC: return "see what is used with pmfs df, and remove or punch files";
    case EBUSY: return "try again, or stop who uses it";
    case EFBIG: return "choose a smaller size";
    case ENOMEM: return "free memory, or stop other programs";
    case ELOOP: return "look for a symbolic link that leads to itself with pmfs readlink";
    case EMLINK: return "make a copy, or another directory";
    case ENODATA: return "see what there is with pmfs listxattr";
    case EXDEV: return "copy it with pmfs cp";
    case EDQUOT: return "see the quotas with pmfs quota, and remove files or raise the limit";
    case ECANCELED: return "start it again";
    default: return nullptr;
  }
}

// "pmfs: <thing>: <cause>; <way out>". The message names the thing.
std::string sentence(const Error& e) {
  std::string s = e.message();
  if (s.empty()) s = std::strerror(e.err());
  if (s.find(';') == std::string::npos) {
    const std::string cause = std::strerror(e.err());
    if (s.find(": ") == std::string::npos) s += ": " + cause;
    if (const char* way = way_out(e.err())) s += std::string("; ") + way;
  }
  return s;
}

int report(const Context& c, int err, const std::string& message, int exit_code) {
  std::fflush(stdout);
  fmt::print(stderr, "pmfs: {}\n", printable(message));
  if (c.json) print_json({{"error", {{"errno", err}, {"message", message}}}});
  return exit_code;
}

int run(int argc, char** argv) {
  Context c;
  CLI::App app("pmfs: files on persistent memory, mapped straight into processes");
  app.name("pmfs");
  app.require_subcommand(1);
  app.set_version_flag("--version", "pmfs 0.1.0");
  app.footer(
      "Files in a volume are written VOLUME_DIR:/path/in/volume. A first round:\n"
      "  pmfs mkfs /dev/shm/vol --size 1G\n"
      "  pmfs serve /dev/shm/vol &\n"
      "  pmfs cp data.bin /dev/shm/vol:/data.bin\n"
      "  pmfs ls -l /dev/shm/vol:/\n"
      "  pmfs shutdown /dev/shm/vol\n"
      "pmfs COMMAND --help says more.");
  add_mkfs(app, c);
  add_fsck(app, c);
  add_serve(app, c);
  add_mount(app, c);
  add_run(app, c);
  add_files(app, c);
  add_names(app, c);
  add_quota(app, c);
  add_grow(app, c);
  add_copy(app, c);
  add_info(app, c);
  add_watch(app, c);
  add_reference(app, c);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help, --version
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    for (int i = 1; i < argc; ++i) c.json = c.json || std::strcmp(argv[i], "--json") == 0;
    std::string help = "pmfs --help";
    for (const CLI::App* sub : app.get_subcommands()) help = "pmfs " + sub->get_name() + " --help";
    const bool fsck = argc > 1 && std::strcmp(argv[1], "fsck") == 0;  // its codes are e2fsck's
    return report(c, EINVAL, fmt::format("command line: {}; see {}", e.what(), help), fsck ? 16 : 2);
  }
  try {
    c.run();
    if (std::fflush(stdout) != 0) throw Error(errno, "standard output: can't be written to");
    return c.exit_code;
  } catch (const UsageError& e) {
    return report(c, EINVAL, e.what(), 2);
  } catch (const Error& e) {
    return report(c, e.err(), sentence(e), c.error_code);
  } catch (const std::system_error& e) {
    return report(c, e.code().value(), e.what(), c.error_code);
  } catch (const std::bad_alloc&) {
    return report(c, ENOMEM, "memory: there is none left; stop other programs", c.error_code);
  } catch (const std::exception& e) {
    return report(c, EIO, e.what(), c.error_code);
  }
}

}  // namespace
}  // namespace pmfs::cli

int main(int argc, char** argv) { return pmfs::cli::run(argc, argv); }
