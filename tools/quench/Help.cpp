//===- Help.cpp - Texts about the subcommands
//--------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Help.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using namespace quench;

/// Options of a command by name, without those that all LLVM programs have.
static std::vector<const cl::Option *> optionsOf(const Command &command) {
  std::vector<const cl::Option *> options;
  for (const auto &entry : command.options.OptionsMap)
    if (entry.second->Subs.size() == 1 && entry.second->hasArgStr())
      options.push_back(entry.second);
  llvm::sort(options, [](const cl::Option *a, const cl::Option *b) {
    return a->ArgStr < b->ArgStr;
  });
  return options;
}

/// "--recipe NAME|FILE.yaml"
static std::string spelling(const cl::Option &option) {
  std::string text = (option.ArgStr.size() == 1 ? "-" : "--");
  text += option.ArgStr;
  if (!option.ValueStr.empty())
    text += " " + option.ValueStr.str();
  return text;
}

/// Words in lines of at most `width` characters, all but the first behind
/// `indent` spaces.
static void wrap(raw_ostream &out, StringRef text, size_t indent,
                 size_t width) {
  size_t column = indent;
  while (!text.empty()) {
    StringRef word;
    std::tie(word, text) = text.split(' ');
    if (column > indent && column + 1 + word.size() > width) {
      out << '\n';
      out.indent(indent);
      column = indent;
    } else if (column > indent) {
      out << ' ';
      ++column;
    }
    out << word;
    column += word.size();
  }
  out << '\n';
}

void quench::printCommandHelp(const Command &command, raw_ostream &out) {
  out << command.options.getDescription() << ".\n\nusage: quench "
      << command.options.getName() << ' ' << command.usage << "\n\nOptions:\n";
  constexpr size_t indent = 24, width = 80;
  for (const cl::Option *option : optionsOf(command)) {
    std::string name = "  " + spelling(*option);
    out << name;
    if (name.size() + 2 > indent)
      out << '\n' << std::string(indent, ' ');
    else
      out.indent(indent - name.size());
    wrap(out, option->HelpStr, indent, width);
  }
  out << command.notes();
}

void quench::printMarkdown(ArrayRef<const Command *> commands,
                           raw_ostream &out) {
  out << "<!-- Written by `quench help --markdown`. -->\n\n# The command "
         "line\n\nOne program, `quench`, does everything. Its exit status is "
         "0 when it is done, 1 when the\nrequest failed with a message on "
         "standard error that names the node or file, and 2 for wrong\nusage. "
         "Options are written `--name VALUE` or `--name=VALUE`. Long work "
         "shows a progress bar on a\nterminal, and a line now and then "
         "elsewhere, on standard error.\n";
  for (const Command *command : commands) {
    out << "\n## quench " << command->options.getName() << "\n\n"
        << command->options.getDescription() << ".\n\n    quench "
        << command->options.getName() << ' ' << command->usage
        << "\n\n| option | meaning |\n|---|---|\n";
    for (const cl::Option *option : optionsOf(*command)) {
      // A bar would end the cell.
      std::string name = spelling(*option), escaped;
      for (char c : name)
        escaped += c == '|' ? std::string("\\|") : std::string(1, c);
      out << "| `" << escaped << "` | " << option->HelpStr << " |\n";
    }
    // Paragraphs, headings ("examples:") and indented lines.
    std::string notes = command->notes();
    SmallVector<StringRef> lines;
    StringRef(notes).rtrim().split(lines, '\n');
    for (StringRef line : lines)
      out << (line.starts_with("  ") ? "  " : "") << line << '\n';
  }
}
