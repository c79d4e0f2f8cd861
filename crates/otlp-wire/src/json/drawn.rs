//! Draws OTLP/JSON from the tables of the schema: members in any order and either spelling, white space, escapes,
//! `null`s, unknown members, numbers in all their forms, and now and then a value of the wrong type.

use longpole_fuzz::Dice;

use crate::schema::{FieldType, Kind, Message, TRACES};

/// A document.
pub(super) fn document(seed: u64) -> String {
    let mut drawer = Drawer { dice: Dice::new(seed), text: String::new(), left: 200 };
    drawer.message(&TRACES, 0);
    drawer.gap();
    drawer.text
}

struct Drawer {
    dice: Dice,
    text: String,
    /// Members and elements that may still be drawn.
    left: usize,
}

const WRONG: [&str; 8] = ["{}", "[]", "7", "-1", "true", "\"x\"", "1e99", "[{}]"];
const INTEGERS: [&str; 18] = [
    "0",
    "1",
    "-1",
    "-0",
    "7",
    "4294967295",
    "4294967296",
    "2147483647",
    "-2147483648",
    "2147483648",
    "1e3",
    "1.0",
    "1.5",
    "-2.5E+0",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1700000000000000000",
];
const DOUBLES: [&str; 12] = [
    "0",
    "-0",
    "-0.0",
    "0.1",
    "1e308",
    "5e-324",
    "1E-400",
    "123456789012345678901234567890",
    "3.141592653589793",
    "9007199254740993",
    "1e+2",
    "2.2250738585072011e-308",
];
const NAMED_DOUBLES: [&str; 8] = ["NaN", "Infinity", "-Infinity", "inf", "1e5", " 1", "1e999", ".5"];
const PIECES: [&str; 14] = [
    "a",
    "service.name",
    "/v1",
    "\\n",
    "\\\"",
    "\\\\",
    "\\/",
    "\\u0000",
    "\\u00e9",
    "\\ud83d\\ude00",
    "\u{e9}",
    "\u{1f600}",
    "\u{7f}",
    "0123456789abcdef",
];
const IDS: [&str; 8] = [
    "",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "00F067AA0BA902B7",
    "00",
    "0",
    "zz",
    "\\u0030\\u0041",
    "abc\\u0064ef",
];
const BASE64: [&str; 10] = ["", "AA==", "AA=", "AA", "QUJD", "-_8", "+\\/8=", "QQ=Q", "QR==", "Q"];

impl Drawer {
    fn gap(&mut self) {
        if self.dice.one_in(8) {
            self.text.push_str(self.dice.pick(&[" ", "\n", "\t\r\n", "    "]));
        }
    }

    fn put(&mut self, text: &str) {
        self.gap();
        self.text.push_str(text);
    }

    fn quoted(&mut self, text: &str) {
        self.put("\"");
        self.text.push_str(text);
        self.text.push('"');
    }

    fn name(&mut self, name: &str) {
        if !name.is_empty() && self.dice.one_in(40) {
            let (first, rest) = name.split_at(1);
            self.quoted(&format!("\\u{:04x}{rest}", u32::from(first.as_bytes()[0])));
        } else {
            self.quoted(name);
        }
        self.put(":");
    }

    fn message(&mut self, message: &'static Message, depth: usize) {
        let mut fields: Vec<&FieldType> = message.fields.iter().collect();
        for at in 1..fields.len() {
            if message.oneof || self.dice.one_in(2) {
                let other = self.dice.below(at + 1);
                fields.swap(at, other);
            }
        }
        let one = if self.dice.one_in(100) { 2 } else { 1 };
        let keep = if message.oneof { one } else { self.dice.below(fields.len() + 1) };
        // Messages come first where few are kept, so that documents reach down to spans and values.
        fields.sort_by_key(|field| !message.oneof && !matches!(field.kind, Kind::Message(_)) && depth < 6);
        fields.truncate(keep.max(usize::from(depth < 8)));
        if self.dice.one_in(2) {
            fields.sort_by_key(|field| field.number);
        }
        self.put("{");
        let mut first = true;
        for field in fields {
            self.unknown(&mut first);
            self.comma(&mut first);
            let (name, other) =
                if self.dice.one_in(3) { (field.snake, field.name) } else { (field.name, field.snake) };
            if self.dice.one_in(30) {
                self.name(other);
                self.put("null");
                self.put(",");
            }
            self.name(name);
            self.field(field, depth);
        }
        self.unknown(&mut first);
        self.put("}");
    }

    fn comma(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.put(",");
        }
    }

    fn unknown(&mut self, first: &mut bool) {
        if self.dice.one_in(20) {
            self.comma(first);
            let name = self.dice.pick(&["x", "", "nam", "names", "resourceSpan", "\\u0000", "keyStrindex"]);
            self.name(name);
            let value = self.dice.pick(&[
                "0",
                "-1.5e-7",
                "null",
                "[]",
                "{}",
                "[ {} , [[\"\\\\\"],true] ]",
                "{\"a\":{\"b\":[1,{}]},\"c\":false}",
                "\"}\"",
            ]);
            self.put(value);
        }
    }

    fn field(&mut self, field: &'static FieldType, depth: usize) {
        if self.dice.one_in(400) {
            let wrong = self.dice.pick(&WRONG);
            return self.put(wrong);
        }
        if !field.is_list() {
            return self.value(field, depth);
        }
        self.put("[");
        let mut first = true;
        for _ in 0..self.dice.below(4) {
            self.comma(&mut first);
            if self.dice.one_in(20) { self.put("null") } else { self.value(field, depth) }
        }
        self.put("]");
    }

    fn value(&mut self, field: &'static FieldType, depth: usize) {
        self.left = self.left.saturating_sub(1);
        let text = match field.kind {
            Kind::Message(_) if self.left == 0 => return self.put("{}"),
            Kind::Message(inner) => return self.message(inner, depth + 1),
            Kind::Text => {
                let text: String = (0..self.dice.below(5)).map(|_| self.dice.pick(&PIECES)).collect();
                return self.quoted(&text);
            }
            Kind::Hex => self.rare(&IDS, 5),
            Kind::Base64 => self.rare(&BASE64, 7),
            Kind::Bool => {
                let word = self.dice.pick(&["true", "false"]);
                return self.put(word);
            }
            Kind::Enum(names) if self.dice.one_in(2) => names[self.dice.below(names.len())],
            Kind::Enum(_) => {
                let number = self.rare(&["0", "1", "5", "77", "-1", "1.0", "-2147483648", "2147483648"], 7);
                return self.put(number);
            }
            Kind::Double if self.dice.one_in(3) => self.rare(&NAMED_DOUBLES, 5),
            Kind::Double => {
                let number = self.dice.pick(&DOUBLES);
                return self.put(number);
            }
            _ => {
                let number = if self.dice.one_in(20) {
                    self.dice.pick(&INTEGERS)
                } else {
                    self.dice.pick(&["0", "1", "9"])
                };
                if self.dice.one_in(2) {
                    return self.put(number);
                }
                number
            }
        };
        self.quoted(text);
    }

    /// One of the first so many, and rarely one of the others, which are mostly wrong.
    fn rare(&mut self, of: &[&'static str], good: usize) -> &'static str {
        if self.dice.one_in(30) { self.dice.pick(of) } else { self.dice.pick(&of[..good]) }
    }
}
