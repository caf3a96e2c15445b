package tokenizer

// wordRule names how text is cut into words. It is part of a BPE file: another
// rule is another tokenizer.
const wordRule = "code-1"

// maxWord bounds a word and so a token, and the work that one can cause.
const maxWord = 64

type class uint8

const (
	mark class = iota // punctuation, operators, control characters
	letter
	digit
	space
	tab
	newline
)

// classOf puts the bytes of letters beyond ASCII with the letters.
var classOf = func() (t [256]class) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c >= 0x80:
			t[c] = letter
		case c >= '0' && c <= '9':
			t[c] = digit
		case c == ' ':
			t[c] = space
		case c == '\t':
			t[c] = tab
		case c == '\n', c == '\r':
			t[c] = newline
		}
	}
	return t
}()

// nextWord returns the length of the first word of a text that is not empty. No
// token crosses from one word into the next. In the manner of GPT's patterns, but
// with indentation kept whole, a word is the first of these that fits, cut at
// maxWord bytes:
//
//	[space or mark]? letter (letter | digit)*     Println, " err", ".Name"
//	digit{1,3}                                    in groups from the left
//	space? mark+ newline* tab*                    ") {\n\t\t"
//	newline+ tab*                                 a line's end and the next one's indentation
//	tab+
//	space+                                        less the one that the next word begins with
func nextWord(text []byte) int {
	text = text[:min(len(text), maxWord)]
	first := classOf[text[0]]
	switch first {
	case digit:
		return run(text[:min(len(text), 3)], 0, digit)
	case tab:
		return run(text, 0, tab)
	case newline:
		return run(text, run(text, 0, newline), tab)
	case letter:
		return identifier(text, 1)
	}
	if len(text) > 1 && classOf[text[1]] == letter {
		return identifier(text, 2)
	}
	start := 0
	if first == space {
		spaces := run(text, 0, space)
		if spaces == len(text) || !joins(classOf[text[spaces]]) {
			return spaces
		}
		if spaces > 1 {
			return spaces - 1
		}
		start = 1
	}
	end := run(text, run(text, start, mark), newline)
	if end > 0 && classOf[text[end-1]] == newline {
		end = run(text, end, tab)
	}
	return end
}

// joins reports whether a word that begins with this class may have a space before.
func joins(c class) bool { return c == letter || c == mark }

// run returns the end of the bytes of one class that start at i.
func run(text []byte, i int, c class) int {
	for i < len(text) && classOf[text[i]] == c {
		i++
	}
	return i
}

// identifier returns the end of the letters and digits that start at i.
func identifier(text []byte, i int) int {
	for i < len(text) && (classOf[text[i]] == letter || classOf[text[i]] == digit) {
		i++
	}
	return i
}
