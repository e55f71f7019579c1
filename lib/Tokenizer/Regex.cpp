//===- Regex.cpp - Matcher of regular expressions -------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Tokenizer/Regex.h"
#include "RegexProgram.h"
#include "llvm/ADT/DenseSet.h"

using namespace quench;

namespace {

/// A state to go back to: step `pc`, at any position from `last` down to
/// `first`.
struct Retry {
  uint32_t pc;
  uint32_t first, last;
};

class Matcher {
public:
  Matcher(const RegexProgram &program, const std::vector<uint32_t> &text)
      : steps(program.steps), sets(program.sets), text(text) {}

  /// Matches at exactly `start`.
  bool matchAt(uint32_t start, uint32_t &end) {
    spent = 0;
    visited.clear();
    retries.clear();
    return run(0, start, end);
  }

private:
  // From here on a state that was tried before is not tried again.
  static constexpr size_t patience = 20000;
  // A match attempt that needs more memory than this is given up.
  static constexpr size_t maxVisited = size_t(1) << 24;

  /// True if this state was tried in this attempt, and therefore fails.
  bool isDeadEnd(uint32_t pc, uint32_t at) {
    if (++spent <= patience)
      return false;
    return visited.size() > maxVisited ||
           !visited.insert(uint64_t(pc) << 32 | at).second;
  }

  bool isWordAt(uint32_t at) const {
    return at < text.size() && isRegexWord(text[at]);
  }

  bool holds(RegexStep::Kind kind, uint32_t at) const {
    switch (kind) {
    case RegexStep::LineStart:
      return at == 0 || (text[at - 1] == '\n' && at != text.size());
    case RegexStep::LineEnd:
      return at == text.size() || text[at] == '\n';
    case RegexStep::TextStart:
      return at == 0;
    case RegexStep::TextEnd:
      return at == text.size();
    default:
      return (isWordAt(at) != (at && isWordAt(at - 1))) ==
             (kind == RegexStep::WordBorder);
    }
  }

  uint32_t countIn(const RegexStep &step, uint32_t at) const {
    const CharSet &set = sets[step.a];
    size_t limit = text.size() - at;
    limit = limit < step.max ? limit : step.max;
    uint32_t count = 0;
    while (count < limit && set.has(text[at + count]))
      ++count;
    return count;
  }

  /// Runs from a step to the next Done; `end` is where the text stands then.
  bool run(uint32_t pc, uint32_t at, uint32_t &end) {
    size_t base = retries.size();
    while (true) {
      if (advance(pc, at)) {
        retries.resize(base);
        end = at;
        return true;
      }
      // Back to the latest state that is left.
      bool found = false;
      while (!found && retries.size() > base) {
        Retry &retry = retries.back();
        pc = retry.pc;
        at = retry.last;
        if (retry.last == retry.first)
          retries.pop_back();
        else
          --retry.last;
        found = !isDeadEnd(pc, at);
      }
      if (!found)
        return false;
    }
  }

  /// Follows the steps until Done (true) or until one fails (false).
  bool advance(uint32_t &pc, uint32_t &at) {
    while (true) {
      const RegexStep &step = steps[pc];
      switch (step.kind) {
      case RegexStep::Char:
        if (at == text.size() || text[at] != step.a)
          return false;
        ++at;
        break;
      case RegexStep::Set:
        if (at == text.size() || !sets[step.a].has(text[at]))
          return false;
        ++at;
        break;
      case RegexStep::Loop:
      case RegexStep::LoopLocked: {
        uint32_t count = countIn(step, at);
        if (count < step.min)
          return false;
        if (step.kind == RegexStep::Loop && count > step.min)
          retries.push_back({pc + 1, at + step.min, at + count - 1});
        at += count;
        break;
      }
      case RegexStep::Split:
        if (isDeadEnd(pc, at))
          return false;
        retries.push_back({step.b, at, at});
        pc = step.a;
        continue;
      case RegexStep::Jump:
        pc = step.a;
        continue;
      case RegexStep::Look:
      case RegexStep::LookNot:
      case RegexStep::Atomic: {
        if (isDeadEnd(pc, at))
          return false;
        uint32_t end = at;
        if (run(pc + 1, at, end) == (step.kind == RegexStep::LookNot))
          return false;
        if (step.kind == RegexStep::Atomic)
          at = end;
        pc = step.a;
        continue;
      }
      case RegexStep::Done:
        return true;
      default:
        if (!holds(step.kind, at))
          return false;
        break;
      }
      ++pc;
    }
  }

  const std::vector<RegexStep> &steps;
  const std::vector<CharSet> &sets;
  const std::vector<uint32_t> &text;
  std::vector<Retry> retries;
  llvm::DenseSet<uint64_t> visited;
  size_t spent = 0;
};

} // namespace

llvm::Expected<Regex> Regex::compile(llvm::StringRef pattern) {
  llvm::Expected<RegexProgram> program = compileRegex(pattern);
  if (!program)
    return program.takeError();
  Regex regex;
  regex.program = std::make_shared<RegexProgram>(std::move(*program));
  return regex;
}

Regex Regex::literal(llvm::StringRef text) {
  auto program = std::make_shared<RegexProgram>();
  RegexStep step;
  step.kind = RegexStep::Char;
  for (uint32_t code : unicode::codePoints(text)) {
    step.a = code;
    program->steps.push_back(step);
  }
  step.kind = RegexStep::Done;
  program->steps.push_back(step);
  Regex regex;
  regex.program = std::move(program);
  return regex;
}

std::vector<ByteRange> Regex::findAll(llvm::StringRef text) const {
  std::vector<uint32_t> codes, offsets;
  codes.reserve(text.size());
  offsets.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size();) {
    offsets.push_back(at);
    codes.push_back(unicode::decode(text, at));
  }
  offsets.push_back(text.size());

  std::vector<ByteRange> matches;
  Matcher matcher(*program, codes);
  const uint32_t none = ~0u;
  uint32_t lastEnd = none;
  for (uint32_t start = 0; start <= codes.size();) {
    uint32_t end;
    if (!matcher.matchAt(start, end) || (end == start && start == lastEnd)) {
      ++start;
      continue;
    }
    matches.push_back({offsets[start], offsets[end]});
    lastEnd = end;
    start = end;
  }
  return matches;
}
