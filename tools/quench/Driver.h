//===- Driver.h - What the subcommands share ---------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_TOOLS_QUENCH_DRIVER_H
#define QUENCH_TOOLS_QUENCH_DRIVER_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/JSON.h"
#include <chrono>
#include <string>

namespace quench {

/// Exit statuses of the program.
enum ExitStatus { Done = 0, Failed = 1, WrongUsage = 2 };

/// A subcommand. Its options are llvm::cl options of `options`.
struct Command {
  /// Name and one line about it are those of `options`.
  llvm::cl::SubCommand &options;
  /// "MODEL.onnx [-o OUT]"
  const char *usage;
  /// Lines behind the options in --help.
  std::string (*notes)();
  /// Called once the options are parsed; returns the exit status.
  int (*run)();
};

/// Says which number an option accepts.
void wrongNumber(const llvm::cl::Option &option, llvm::StringRef text,
                 llvm::StringRef accepted);

extern const Command compileCommand, runCommand, generateCommand, evalCommand,
    benchCommand, inspectCommand, recipesCommand, formatsCommand;

/// A number that an option takes; wrong ones are told in this program's form.
template <typename T> struct Number {
  Number(T value = 0) : value(value) {}
  operator T() const { return value; }
  T value;
};
template <typename T> using NumberOption = llvm::cl::opt<Number<T>>;
/// Several, separated by commas.
template <typename T> using NumbersOption = llvm::cl::list<Number<T>>;

/// Writes "error: ..." to standard error; returns the status.
int fail(llvm::Error error);
/// The same for wrong usage, with a hint at --help.
int wrongUsage(const Command &command, const llvm::Twine &message);

/// Flushes standard output; a write error, as of a full disk or a closed pipe,
/// becomes an error.
llvm::Error flushOutput();

/// Prints a value to standard output, indented, with a newline.
void printJSON(llvm::json::Value value);

/// Writes a whole file: under a temporary name first, so that nothing is lost
/// if that fails. Errors name the file.
llvm::Error writeFile(llvm::StringRef path, llvm::StringRef contents);

/// "12.3 MB"
std::string formatBytes(double bytes);

/// Rows of texts as columns, the first row as the head. Columns whose name ends
/// with a space are aligned to the right (the space is not printed).
void printTable(llvm::raw_ostream &out,
                llvm::ArrayRef<std::vector<std::string>> rows);

/// printf into a string.
template <typename... Args>
std::string formatted(const char *format, Args... args) {
  char text[128];
  int length = snprintf(text, sizeof(text), format, args...);
  return std::string(text, std::min<size_t>(std::max(length, 0), 127));
}

/// Parses "1x128" or "scalar". Errors quote the text.
llvm::Expected<llvm::SmallVector<int64_t>> parseShape(llvm::StringRef text);

class Stopwatch {
public:
  double seconds() const {
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start = Clock::now();
};

} // namespace quench

template <typename T>
class llvm::cl::parser<quench::Number<T>>
    : public llvm::cl::basic_parser<quench::Number<T>> {
public:
  using llvm::cl::basic_parser<quench::Number<T>>::basic_parser;

  /// True if it failed.
  bool parse(Option &option, StringRef, StringRef text,
             quench::Number<T> &number) {
    bool failed;
    if constexpr (std::is_floating_point_v<T>)
      failed = text.getAsDouble(number.value);
    else
      failed = text.getAsInteger(10, number.value);
    if (failed)
      quench::wrongNumber(option, text,
                          std::is_floating_point_v<T> ? "a number"
                          : std::is_unsigned_v<T>
                              ? "a whole number that is not negative"
                              : "a whole number");
    return failed;
  }
  template <typename... Args> void printOptionDiff(Args &&...) const {}
};

#endif // QUENCH_TOOLS_QUENCH_DRIVER_H
