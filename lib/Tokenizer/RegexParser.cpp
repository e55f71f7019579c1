//===- RegexParser.cpp - Compiler of regular expressions ------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RegexProgram.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include <memory>

using namespace quench;
using llvm::Error;
using llvm::Expected;

namespace {

constexpr uint32_t unlimited = ~0u;
constexpr uint32_t maxRepeat = 1000;
constexpr size_t maxSteps = 20000;
constexpr unsigned maxDepth = 64;

struct Node {
  enum Kind { Empty, Char, Set, Sequence, Choice, Repeat, Group, Assert } kind;
  enum Mode { Greedy, Lazy, Locked } mode = Greedy;
  RegexStep::Kind step = RegexStep::Done; // of Group (Look..) and Assert
  uint32_t value = 0;                     // character or set
  uint32_t min = 0, max = 0;
  std::vector<std::unique_ptr<Node>> parts;

  explicit Node(Kind kind) : kind(kind) {}
};
using NodePtr = std::unique_ptr<Node>;

class Parser {
public:
  Parser(llvm::StringRef pattern, RegexProgram &program)
      : pattern(pattern), program(program) {}

  Expected<NodePtr> parse() {
    Expected<NodePtr> node = choice();
    if (node && at != pattern.size())
      return fail("unmatched ')'");
    return node;
  }

private:
  Error fail(const llvm::Twine &what) const {
    return llvm::createStringError(what + " at byte " + llvm::Twine(at) +
                                   " of the pattern '" + pattern + "'");
  }

  bool done() const { return at == pattern.size(); }
  bool peek(char c) const { return !done() && pattern[at] == c; }
  bool take(llvm::StringRef text) {
    if (!pattern.substr(at).starts_with(text))
      return false;
    at += text.size();
    return true;
  }
  uint32_t nextCode() { return unicode::decode(pattern, at); }

  Expected<NodePtr> choice() {
    if (++depth > maxDepth)
      return fail("groups nested more than 64 deep");
    bool saved = ignoreCase;
    auto node = std::make_unique<Node>(Node::Choice);
    do {
      Expected<NodePtr> part = sequence();
      if (!part)
        return part.takeError();
      node->parts.push_back(std::move(*part));
    } while (take("|"));
    ignoreCase = saved;
    --depth;
    if (node->parts.size() == 1)
      return std::move(node->parts.front());
    return std::move(node);
  }

  Expected<NodePtr> sequence() {
    auto node = std::make_unique<Node>(Node::Sequence);
    while (!done() && !peek('|') && !peek(')')) {
      Expected<NodePtr> part = atom();
      if (part)
        part = quantified(std::move(*part));
      if (!part)
        return part.takeError();
      node->parts.push_back(std::move(*part));
    }
    return std::move(node);
  }

  /// Reads {n}, {n,}, {,m} or {n,m}; what looks otherwise is no quantifier.
  bool bounds(uint32_t &min, uint32_t &max) {
    size_t close = pattern.find('}', at);
    if (!peek('{') || close == llvm::StringRef::npos)
      return false;
    llvm::StringRef inside = pattern.slice(at + 1, close);
    auto [low, high] = inside.split(',');
    bool comma = inside.contains(',');
    min = 0;
    max = unlimited;
    if ((low.empty() && high.empty()) ||
        (!low.empty() && low.getAsInteger(10, min)) ||
        (!high.empty() && high.getAsInteger(10, max)))
      return false;
    if (!comma)
      max = min;
    at = close + 1;
    return true;
  }

  Expected<NodePtr> quantified(NodePtr node) {
    for (unsigned count = 0; !done(); ++count) {
      uint32_t min = 0, max = unlimited;
      bool braces = false;
      if (take("?"))
        max = 1;
      else if (take("+"))
        min = 1;
      else if (!take("*")) {
        if (!bounds(min, max))
          return std::move(node);
        braces = true;
      }
      if (count == 8)
        return fail("more than 8 quantifiers in a row");
      if (max < min)
        return fail("a quantifier whose maximum is below its minimum");
      if (min > maxRepeat || (max != unlimited && max > maxRepeat))
        return fail("a quantifier above 1000");
      auto repeat = std::make_unique<Node>(Node::Repeat);
      repeat->min = min;
      repeat->max = max;
      if (take("?")) {
        if (braces && min == max)
          return fail("the quantifier {n}? is not supported");
        repeat->mode = Node::Lazy;
      } else if (!braces && take("+")) {
        repeat->mode = Node::Locked;
      }
      if (node->kind == Node::Assert)
        return fail("a quantifier behind an anchor");
      repeat->parts.push_back(std::move(node));
      node = std::move(repeat);
    }
    return std::move(node);
  }

  NodePtr setNode(CharSet set) {
    set.seal();
    auto node = std::make_unique<Node>(Node::Set);
    node->value = program.sets.size();
    program.sets.push_back(std::move(set));
    return node;
  }

  NodePtr charNode(uint32_t code) {
    if (ignoreCase) {
      std::vector<uint32_t> variants = unicode::caseVariants(code);
      if (variants.size() > 1) {
        CharSet set;
        for (uint32_t variant : variants)
          set.addRange(variant, variant);
        return setNode(std::move(set));
      }
    }
    auto node = std::make_unique<Node>(Node::Char);
    node->value = code;
    return node;
  }

  NodePtr assertNode(RegexStep::Kind kind) {
    auto node = std::make_unique<Node>(Node::Assert);
    node->step = kind;
    return node;
  }

  Expected<NodePtr> atom() {
    if (take("("))
      return group();
    if (take("["))
      return charClass();
    if (take("^"))
      return assertNode(RegexStep::LineStart);
    if (take("$"))
      return assertNode(RegexStep::LineEnd);
    if (take(".")) {
      CharSet set;
      set.addRange('\n', '\n');
      set.negated = true;
      return setNode(std::move(set));
    }
    if (peek('*') || peek('+') || peek('?'))
      return fail("a quantifier with nothing before it");
    if (peek('\\')) {
      for (auto [text, kind] : {std::pair{"\\A", RegexStep::TextStart},
                                std::pair{"\\z", RegexStep::TextEnd},
                                std::pair{"\\b", RegexStep::WordBorder},
                                std::pair{"\\B", RegexStep::NoWordBorder}})
        if (take(text))
          return assertNode(kind);
      CharSet set;
      uint32_t code;
      Expected<bool> isSet = escape(set, code);
      if (!isSet)
        return isSet.takeError();
      if (*isSet)
        return setNode(std::move(set));
      return charNode(code);
    }
    return charNode(nextCode());
  }

  Expected<NodePtr> group() {
    RegexStep::Kind kind = RegexStep::Done;
    bool saved = ignoreCase;
    if (take("?=")) {
      kind = RegexStep::Look;
    } else if (take("?!")) {
      kind = RegexStep::LookNot;
    } else if (take("?>")) {
      kind = RegexStep::Atomic;
    } else if (take("?i:")) {
      ignoreCase = true;
    } else if (take("?-i:")) {
      ignoreCase = false;
    } else if (take("?i)")) {
      // Holds to the end of the enclosing group.
      ignoreCase = true;
      return choice();
    } else if (!take("?:") && peek('?')) {
      return fail("this kind of group is not supported (supported: (...), "
                  "(?:...), (?i:...), (?=...), (?!...), (?>...))");
    }
    Expected<NodePtr> inside = choice();
    if (!inside)
      return inside;
    if (!take(")"))
      return fail("a group without ')'");
    ignoreCase = saved;
    if (kind == RegexStep::Done)
      return inside;
    auto node = std::make_unique<Node>(Node::Group);
    node->step = kind;
    node->parts.push_back(std::move(*inside));
    return std::move(node);
  }

  Expected<uint32_t> hexCode(unsigned least, unsigned most) {
    unsigned count = 0;
    uint32_t code = 0;
    while (count < most && !done() && llvm::isHexDigit(pattern[at])) {
      code = code * 16 + llvm::hexDigitValue(pattern[at++]);
      ++count;
    }
    if (count < least || code > 0x10FFFF)
      return fail("a wrong hexadecimal character number");
    return code;
  }

  /// Reads what follows a backslash. True: a set, added to `set`; false: the
  /// character `code`.
  Expected<bool> escape(CharSet &set, uint32_t &code) {
    ++at;
    if (done())
      return fail("a backslash at the end");
    char c = pattern[at];
    CharSet::Item item;
    switch (c) {
    case 's':
    case 'S':
      item.kind = CharSet::Item::Space;
      item.negated = c == 'S';
      break;
    case 'w':
    case 'W':
      item.kind = CharSet::Item::Word;
      item.negated = c == 'W';
      break;
    case 'd':
    case 'D':
      item.kind = CharSet::Item::Categories;
      item.categories = unicode::bit(unicode::Nd);
      item.negated = c == 'D';
      break;
    case 'p':
    case 'P': {
      size_t close = pattern.find('}', at);
      if (at + 1 >= pattern.size() || pattern[at + 1] != '{' ||
          close == llvm::StringRef::npos)
        return fail("\\p without {name}");
      llvm::StringRef name = pattern.slice(at + 2, close);
      item.kind = CharSet::Item::Categories;
      item.negated = (c == 'P') != name.consume_front("^");
      item.categories = unicode::categoryByName(name);
      using namespace unicode;
      CategorySet cased = bit(Lu) | bit(Ll) | bit(Lt);
      if (!item.categories)
        return fail("the property \\p{" + name +
                    "} is not supported (general categories are)");
      if (ignoreCase && (item.categories & cased) &&
          (item.categories & cased) != cased)
        return fail("\\p{" + name + "} without regard to case");
      at = close;
      break;
    }
    default:
      return escapedCode(code) ? Expected<bool>(false)
                               : Expected<bool>(codeError());
    }
    ++at;
    set.items.push_back(item);
    return true;
  }

  bool escapedCode(uint32_t &code) {
    static const char from[] = "rntfvae0", to[] = "\r\n\t\f\v\a\x1B";
    char c = pattern[at];
    size_t index = llvm::StringRef(from).find(c);
    if (index != llvm::StringRef::npos) {
      ++at;
      code = uint8_t(to[index]);
      return true;
    }
    if (c == 'x' || c == 'u') {
      ++at;
      bool braces = c == 'x' && take("{");
      Expected<uint32_t> number = c == 'u' ? hexCode(4, 4)
                                  : braces ? hexCode(1, 8)
                                           : hexCode(1, 2);
      if (!number) {
        llvm::consumeError(number.takeError());
        return false;
      }
      code = *number;
      return !braces || take("}");
    }
    if (llvm::isAlnum(c))
      return false;
    code = nextCode();
    return true;
  }

  Error codeError() {
    return fail(llvm::Twine("the escape '\\") +
                (done() ? "" : pattern.substr(at, 1)) + "' is not supported");
  }

  Expected<NodePtr> charClass() {
    CharSet set;
    set.negated = take("^");
    bool first = true;
    while (!peek(']') || first) {
      if (done())
        return fail("a class without ']'");
      if (peek('[') || pattern.substr(at).starts_with("&&"))
        return fail("classes within classes are not supported");
      first = false;
      uint32_t low = 0;
      Expected<bool> isSet = member(set, low);
      if (!isSet)
        return isSet.takeError();
      if (*isSet)
        continue;
      uint32_t high = low;
      if (peek('-') && at + 1 < pattern.size() && pattern[at + 1] != ']') {
        ++at;
        isSet = member(set, high);
        if (!isSet)
          return isSet.takeError();
        if (*isSet || high < low)
          return fail("a wrong range in a class");
      }
      set.addRange(low, high);
      if (ignoreCase && high - low < 512)
        for (uint32_t code = low; code <= high; ++code)
          for (uint32_t variant : unicode::caseVariants(code))
            set.addRange(variant, variant);
    }
    ++at;
    return setNode(std::move(set));
  }

  Expected<bool> member(CharSet &set, uint32_t &code) {
    if (peek('\\')) {
      if (pattern.substr(at).starts_with("\\b")) {
        at += 2;
        code = '\b';
        return false;
      }
      return escape(set, code);
    }
    code = nextCode();
    return false;
  }

  llvm::StringRef pattern;
  RegexProgram &program;
  size_t at = 0;
  unsigned depth = 0;
  bool ignoreCase = false;
};

/// Turns the tree into steps. False: too many of them.
class Emitter {
public:
  explicit Emitter(RegexProgram &program) : program(program) {}

  bool emit(const Node &node) {
    if (program.steps.size() > maxSteps || ++calls > 4 * maxSteps)
      return false;
    switch (node.kind) {
    case Node::Empty:
      return true;
    case Node::Char:
      add(RegexStep::Char, node.value);
      return true;
    case Node::Set:
      add(RegexStep::Set, node.value);
      return true;
    case Node::Assert:
      add(node.step);
      return true;
    case Node::Sequence:
      return llvm::all_of(node.parts, [&](auto &part) { return emit(*part); });
    case Node::Choice:
      return emitChoice(node);
    case Node::Group:
      return emitEnclosed(node.step, *node.parts.front());
    case Node::Repeat:
      return emitRepeat(node);
    }
    return true;
  }

  size_t add(RegexStep::Kind kind, uint32_t a = 0, uint32_t b = 0) {
    RegexStep step;
    step.kind = kind;
    step.a = a;
    step.b = b;
    program.steps.push_back(step);
    return program.steps.size() - 1;
  }

private:
  size_t here() const { return program.steps.size(); }

  bool emitEnclosed(RegexStep::Kind kind, const Node &inside) {
    size_t head = add(kind);
    if (!emit(inside))
      return false;
    add(RegexStep::Done);
    program.steps[head].a = here();
    return true;
  }

  bool emitChoice(const Node &node) {
    std::vector<size_t> ends;
    for (size_t i = 0; i < node.parts.size(); ++i) {
      bool last = i + 1 == node.parts.size();
      size_t split = last ? 0 : add(RegexStep::Split, here() + 1);
      if (!emit(*node.parts[i]))
        return false;
      if (last)
        break;
      ends.push_back(add(RegexStep::Jump));
      program.steps[split].b = here();
    }
    for (size_t end : ends)
      program.steps[end].a = here();
    return true;
  }

  bool emitRepeat(const Node &node) {
    const Node &inside = *node.parts.front();
    bool single = inside.kind == Node::Set || inside.kind == Node::Char;
    if (single && node.mode != Node::Lazy) {
      uint32_t set = inside.value;
      if (inside.kind == Node::Char) {
        CharSet one;
        one.addRange(inside.value, inside.value);
        one.seal();
        set = program.sets.size();
        program.sets.push_back(std::move(one));
      }
      size_t loop = add(node.mode == Node::Locked ? RegexStep::LoopLocked
                                                  : RegexStep::Loop,
                        set);
      program.steps[loop].min = node.min;
      program.steps[loop].max = node.max;
      return true;
    }
    if (node.mode != Node::Locked)
      return emitCopies(node, inside);
    size_t head = add(RegexStep::Atomic);
    if (!emitCopies(node, inside))
      return false;
    add(RegexStep::Done);
    program.steps[head].a = here();
    return true;
  }

  size_t addSplit(bool lazy) {
    size_t split = add(RegexStep::Split);
    (lazy ? program.steps[split].b : program.steps[split].a) = here();
    return split;
  }

  void setExit(size_t split, bool lazy) {
    (lazy ? program.steps[split].a : program.steps[split].b) = here();
  }

  bool emitCopies(const Node &node, const Node &inside) {
    bool lazy = node.mode == Node::Lazy;
    for (uint32_t i = 0; i < node.min; ++i)
      if (!emit(inside))
        return false;
    if (node.max == unlimited) {
      size_t split = addSplit(lazy);
      if (!emit(inside))
        return false;
      add(RegexStep::Jump, split);
      setExit(split, lazy);
      return true;
    }
    std::vector<size_t> splits;
    for (uint32_t i = node.min; i < node.max; ++i) {
      splits.push_back(addSplit(lazy));
      if (!emit(inside))
        return false;
    }
    for (size_t split : splits)
      setExit(split, lazy);
    return true;
  }

  RegexProgram &program;
  size_t calls = 0;
};

} // namespace

bool CharSet::Item::has(uint32_t code) const {
  switch (kind) {
  case Range:
    return (code >= first && code <= last) != negated;
  case Categories:
    return unicode::isIn(code, categories) != negated;
  case Space:
    return unicode::isSpace(code) != negated;
  case Word:
    return isRegexWord(code) != negated;
  }
  return false;
}

bool CharSet::slowHas(uint32_t code) const {
  for (const Item &item : items)
    if (item.has(code))
      return !negated;
  return negated;
}

void CharSet::addRange(uint32_t first, uint32_t last) {
  Item item;
  item.first = first;
  item.last = last;
  items.push_back(item);
}

void CharSet::seal() {
  for (uint32_t code = 0; code < 128; ++code)
    if (slowHas(code))
      ascii[code >> 6] |= uint64_t(1) << (code & 63);
}

bool quench::isRegexWord(uint32_t code) {
  return unicode::isWord(code) || code == 0xB2 || code == 0xB3 ||
         code == 0xB9 || (code >= 0xBC && code <= 0xBE);
}

Expected<RegexProgram> quench::compileRegex(llvm::StringRef pattern) {
  RegexProgram program;
  if (!unicode::isValid(pattern))
    return llvm::createStringError("the pattern is not valid UTF-8");
  Expected<NodePtr> tree = Parser(pattern, program).parse();
  if (!tree)
    return tree.takeError();
  Emitter emitter(program);
  if (!emitter.emit(**tree))
    return llvm::createStringError(
        "the pattern '%s' needs more than %zu steps; its quantifiers are too "
        "large",
        pattern.str().c_str(), maxSteps);
  emitter.add(RegexStep::Done);
  return program;
}
