// pmfs reference: the manual page and the completion of this very program, from its own command-line definitions, so that
// they can't differ from it.

#include <memory>

#include <fmt/format.h>

#include "tools/pmfs/target.h"

namespace pmfs::cli {
namespace {

// --- man(7)

// A backslash, a leading dot or apostrophe, and a minus sign mean something to troff.
std::string troff(std::string_view text) {
  std::string out;
  bool begin = true;
  for (const char c : text) {
    if (begin && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
    begin = c == '\n';
  }
  return out;
}

std::string sentence_of(const CLI::Option& o) {
  std::string text = o.get_description();
  if (const std::string d = o.get_default_str(); !d.empty() && d != "\"\"") text += fmt::format(" (default: {})", d);
  if (o.get_required() && !o.get_positional()) text += " (required)";
  return text;
}

// "\-\-size TEXT", "DIR", "PATHS..."
std::string option_names(const CLI::Option& o) {
  std::string text = fmt::format("\\fB{}\\fR", troff(o.get_name(o.get_positional(), true)));
  if (!o.get_positional() && o.get_items_expected_max() > 0) {
    std::string type = o.get_type_name();
    if (const auto colon = type.find(':'); colon != std::string::npos) type.resize(colon);
    text += fmt::format(" \\fI{}\\fR", troff(type));
  }
  return text;
}

void command_page(const CLI::App& cmd) {
  std::string usage;
  for (const CLI::Option* o : cmd.get_options()) {
    if (!o->get_positional()) continue;
    const bool many = o->get_items_expected_max() > 1;
    std::string name = fmt::format("\\fI{}\\fR{}", troff(o->get_name(true)), many ? "..." : "");
    usage += o->get_required() ? " " + name : " [" + name + "]";
  }
  fmt::print(".SS pmfs {} [\\fIoptions\\fR]{}\n{}.\n", troff(cmd.get_name()), usage, troff(cmd.get_description()));
  for (const CLI::Option* o : cmd.get_options()) {
    if (o->get_name(false, true) == "-h,--help" || o->get_name(false, true) == "--json") continue;  // said once for all
    const std::string text = sentence_of(*o);
    fmt::print(".TP\n{}\n{}\n", option_names(*o), text.empty() ? "\\&" : troff(text));
  }
  if (const std::string examples = cmd.get_footer(); !examples.empty()) {
    const auto from = examples.find('\n');
    fmt::print(".PP\n.EX\n{}.EE\n", troff(examples.substr(from == std::string::npos ? 0 : from + 1)));
  }
}

constexpr const char* kHead =
    ".TH PMFS 1 \"\" \"pmfs 0.1.0\" \"User Commands\"\n"
    ".SH NAME\npmfs \\- files on persistent memory, mapped straight into processes\n"
    ".SH SYNOPSIS\n.B pmfs\n\\fIcommand\\fR [\\fIoptions\\fR] [\\fIarguments\\fR]\n"
    ".SH DESCRIPTION\n"
    "A\n.I volume\nis a directory with a region of memory (data) and its metadata (meta). One process, the\n.I manager\n"
    "(\\fBpmfs serve\\fR or \\fBpmfs mount\\fR), serves it; clients map its files through\n.BR libpmfs (3),\n"
    "and any program uses them through the mount.\n"
    "Files in a volume are written\n.IR VOLUME_DIR :/path/in/volume.\n.PP\n"
    "Every command takes \\fB\\-\\-help\\fR, and \\fB\\-\\-json\\fR: the result, or the error, as one JSON document on standard\n"
    "output. Sizes are bytes, or with K, M, G or T, powers of 1024.\n"
    ".SH COMMANDS\n";

constexpr const char* kTail =
    ".SH EXIT STATUS\n0: done. 1: an error, told in one line on standard error. 2: a command line that makes no sense.\n"
    "\\fBpmfs fsck\\fR has the codes of\n.BR e2fsck (8):\n"
    "0 in order, 1 repaired, 4 damaged and not repaired, 8 could not check, 16 usage.\n"
    ".SH ENVIRONMENT\n.TP\n.B PMFS_PATIENCE_MS\n"
    "how long calls of a client wait for a manager that is gone, in milliseconds (default: 10000).\n"
    ".SH FILES\n.TP\n.I VOLUME_DIR/data\nthe region: the blocks of the files\n.TP\n.I VOLUME_DIR/meta\nthe metadata, a libpmemobj pool\n"
    ".TP\n.I VOLUME_DIR/manager.log\nwhat a manager in the background says (\\fBpmfs mount\\fR)\n"
    ".SH SEE ALSO\n.BR pmfs\\-torture (1),\n.BR libpmfs (3)\n";

void man_page(const CLI::App& app) {
  fmt::print("{}", kHead);
  for (const CLI::App* cmd : app.get_subcommands([](const CLI::App*) { return true; })) command_page(*cmd);
  fmt::print("{}", kTail);
}

// --- bash

std::string quoted(std::string text) {
  for (size_t at = 0; (at = text.find('\'', at)) != std::string::npos; at += 4) text.replace(at, 1, "'\\''");
  return "'" + text + "'";
}

std::string words_of(const CLI::App& cmd) {
  std::string words;
  for (const CLI::Option* o : cmd.get_options())
    for (const std::string& name : o->get_lnames()) words += (words.empty() ? "--" : " --") + name;
  return words;
}

// Words are commands and options; what else there is are files.
void bash_completion(const CLI::App& app) {
  std::string commands;
  fmt::print("# bash completion for pmfs, written by: pmfs reference bash\n_pmfs() {{\n"
             "  local word=${{COMP_WORDS[COMP_CWORD]}} command= words= i\n"
             "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
             "    if [[ ${{COMP_WORDS[i]}} != -* ]]; then command=${{COMP_WORDS[i]}}; break; fi\n  done\n  case $command in\n");
  for (const CLI::App* cmd : app.get_subcommands([](const CLI::App*) { return true; })) {
    commands += (commands.empty() ? "" : " ") + cmd->get_name();
    fmt::print("    {}) words={} ;;\n", cmd->get_name(), quoted(words_of(*cmd)));
  }
  fmt::print("    '') words={} ;;\n  esac\n", quoted(commands + " --help --version"));
  fmt::print("  if [[ -z $command || $word == -* ]]; then\n"
             "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
             "  else\n    mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n    compopt -o filenames 2>/dev/null\n  fi\n}}\n"
             "complete -F _pmfs pmfs\n");
}

}  // namespace

void add_reference(CLI::App& app, Context& c) {
  auto what = std::make_shared<std::string>();
  CLI::App* cmd = add_command(app, c, "reference", "Write the manual page or the bash completion of this program",
                              "  pmfs reference man | man -l -\n  source <(pmfs reference bash)\n", [&app, what] {
                                if (*what == "man")
                                  man_page(app);
                                else
                                  bash_completion(app);
                              });
  cmd->add_option("WHAT", *what, "man or bash")->required()->check(CLI::IsMember({"man", "bash"}));
}

}  // namespace pmfs::cli
