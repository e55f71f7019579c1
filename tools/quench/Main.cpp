//===- Main.cpp - The quench program --------------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Finds the subcommand and parses its options. Everything else is in the
// subcommands' own files.
//
//===----------------------------------------------------------------------===//

#include "Driver.h"
#include "Help.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <csignal>

using namespace llvm;
using namespace quench;

static const Command *const commands[] = {
    &compileCommand, &runCommand,     &generateCommand, &evalCommand,
    &benchCommand,   &inspectCommand, &recipesCommand,  &formatsCommand};

static void printVersion(raw_ostream &out) {
  out << "quench " QUENCH_VERSION " (LLVM " LLVM_VERSION_STRING ")\n";
}

static void printHelp(raw_ostream &out) {
  out << "Quench compiles ONNX models to quantized native binaries and runs "
         "them.\n\nusage: quench COMMAND [OPTION...]\n\n";
  for (const Command *command : commands) {
    StringRef name = command->options.getName();
    out << "  " << name << std::string(10 - name.size(), ' ')
        << command->options.getDescription() << '\n';
  }
  out << "\n'quench COMMAND --help' lists a command's options; "
         "'quench --version' names the version.\n"
         "\nexamples:\n"
         "  quench compile model.onnx -o model.so --recipe w4a8\n"
         "  quench generate model.so --prompt \"Once upon a time\" "
         "--tokenizer tokenizer.json\n"
         "  quench eval model.so --data text.txt --tokenizer tokenizer.json "
         "--reference model.onnx\n"
         "\nexit status: 0 done, 1 failed (a message on standard error names "
         "the node or file), 2 wrong usage\n";
}

/// The command whose name is nearest to a word.
static StringRef nearestCommand(StringRef word) {
  StringRef nearest;
  unsigned least = ~0u;
  for (const Command *command : commands) {
    StringRef name = command->options.getName();
    unsigned distance = name.edit_distance(word);
    if (distance < least) {
      least = distance;
      nearest = name;
    }
  }
  return nearest;
}

static int unknownCommand(StringRef word) {
  if (word.empty())
    errs() << "error: no command\n";
  else if (word.starts_with("-"))
    errs() << "error: unknown option '" << word
           << "': a command comes first, as in 'quench compile "
           << "MODEL.onnx'\n";
  else
    errs() << "error: unknown command '" << word << "'; did you mean '"
           << nearestCommand(word) << "'?\n";
  errs() << "'quench --help' lists the commands.\n";
  return WrongUsage;
}

/// Closes standard output with a check; a failure wins over success.
static int finish(int status) {
  if (Error error = flushOutput()) {
    if (status == Done)
      return fail(std::move(error));
    consumeError(std::move(error));
  }
  return status;
}

/// What option parsing wrote, in this program's form.
static int parsingFailed(StringRef text, StringRef program, StringRef command) {
  SmallVector<StringRef> lines;
  text.split(lines, '\n', -1, /*KeepEmpty=*/false);
  StringRef start = "error: ";
  for (StringRef line : lines) {
    line.consume_front(program);
    line.consume_front(": ");
    // These hints name the help of all commands.
    line = line.split("  Try:").first.split(" See:").first;
    line.consume_back(":");
    errs() << start << line << '\n';
    start = "";
  }
  errs() << "'quench " << command << " --help' lists the options.\n";
  return WrongUsage;
}

/// The option that a word without '=' is; null if it is none.
static const cl::Option *optionOf(const Command &command, StringRef word) {
  if (!word.consume_front("-"))
    return nullptr;
  word.consume_front("-");
  return command.options.OptionsMap.lookup(word);
}

static int run(const Command &command, int argc, char **argv) {
  for (StringRef argument : ArrayRef<char *>(argv, argc).drop_front(2)) {
    if (argument == "--")
      break;
    if (argument == "--help" || argument == "-h" || argument == "-help") {
      printCommandHelp(command, outs());
      return finish(Done);
    }
  }
  // Option parsing would say this without a name for the program's errors.
  if (const cl::Option *last = optionOf(command, argv[argc - 1]);
      last && last->getValueExpectedFlag() == cl::ValueRequired)
    return wrongUsage(command, Twine(argv[argc - 1]) + " needs a value: " +
                                   argv[argc - 1] + " " + last->ValueStr);
  std::string text;
  raw_string_ostream messages(text);
  if (!cl::ParseCommandLineOptions(argc, argv, "", &messages))
    return parsingFailed(text, sys::path::filename(argv[0]),
                         command.options.getName());
  return finish(command.run());
}

/// 'quench help [COMMAND | --markdown]'
static int help(ArrayRef<char *> words) {
  if (words.empty()) {
    printHelp(outs());
    return finish(Done);
  }
  if (words.front() == StringRef("--markdown")) {
    printMarkdown(commands, outs());
    return finish(Done);
  }
  for (const Command *command : commands)
    if (command->options.getName() == words.front()) {
      printCommandHelp(*command, outs());
      return finish(Done);
    }
  return unknownCommand(words.front());
}

int main(int argc, char **argv) {
  InitLLVM init(argc, argv, /*InstallPipeSignalExitHandler=*/false);
  setBugReportMsg("quench crashed; this is a bug. Please report it with the "
                  "command and the model.\n");
  // A closed pipe becomes a write error.
  std::signal(SIGPIPE, SIG_IGN);
  // So does a file that the system lets grow no further.
  std::signal(SIGXFSZ, SIG_IGN);

  StringRef word = argc > 1 ? argv[1] : "";
  if (word == "help")
    return help(ArrayRef<char *>(argv, argc).drop_front(2));
  if (word == "--help" || word == "-h" || word == "-help")
    return help({});
  if (word == "--version" || word == "-version" || word == "version") {
    printVersion(outs());
    return finish(Done);
  }
  for (const Command *command : commands)
    if (command->options.getName() == word)
      return run(*command, argc, argv);
  return unknownCommand(word);
}
