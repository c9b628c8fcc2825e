package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Punycode, RFC 3492. It stands here, and not golang.org/x/net/idna, because
// that would put 400 KB of tables into the cage for one check and one hint.
const (
	punyBase, punyTMin, punyTMax  = 36, 1, 26
	punySkew, punyDamp            = 38, 700
	punyInitialBias, punyInitialN = 72, 0x80
	punyMaxDelta                  = 1 << 30 // far below overflow; no label of 63 bytes needs more
	acePrefix                     = "xn--"
	punyDigits                    = "abcdefghijklmnopqrstuvwxyz0123456789"
)

func punyAdapt(delta, points int, first bool) int {
	if first {
		delta /= punyDamp
	} else {
		delta /= 2
	}
	delta += delta / points
	k := 0
	for delta > (punyBase-punyTMin)*punyTMax/2 {
		delta /= punyBase - punyTMin
		k += punyBase
	}
	return k + (punyBase-punyTMin+1)*delta/(delta+punySkew)
}

func punyThreshold(k, bias int) int {
	return min(max(k-bias, punyTMin), punyTMax)
}

func punyEncode(label string) string {
	var out strings.Builder
	runes := []rune(label)
	for _, r := range runes {
		if r < utf8.RuneSelf {
			out.WriteByte(byte(r))
		}
	}
	basic := out.Len()
	if basic > 0 {
		out.WriteByte('-')
	}
	n, delta, bias := punyInitialN, 0, punyInitialBias
	for handled := basic; handled < len(runes); {
		next := int(unicode.MaxRune) + 1
		for _, r := range runes {
			if int(r) >= n && int(r) < next {
				next = int(r)
			}
		}
		delta += (next - n) * (handled + 1)
		n = next
		for _, r := range runes {
			if int(r) < n {
				delta++
			}
			if int(r) != n {
				continue
			}
			punyWrite(&out, delta, bias)
			bias = punyAdapt(delta, handled+1, handled == basic)
			delta = 0
			handled++
		}
		delta++
		n++
	}
	return out.String()
}

func punyWrite(out *strings.Builder, delta, bias int) {
	for k := punyBase; ; k += punyBase {
		t := punyThreshold(k, bias)
		if delta < t {
			out.WriteByte(punyDigits[delta])
			return
		}
		out.WriteByte(punyDigits[t+(delta-t)%(punyBase-t)])
		delta = (delta - t) / (punyBase - t)
	}
}

func punyDecode(s string) ([]rune, bool) {
	var out []rune
	if i := strings.LastIndexByte(s, '-'); i > 0 {
		out, s = []rune(s[:i]), s[i+1:]
	} else if i == 0 {
		return nil, false
	}
	n, at, bias := punyInitialN, 0, punyInitialBias
	for first := true; s != ""; first = false {
		old, weight := at, 1
		for k := punyBase; ; k += punyBase {
			if s == "" {
				return nil, false
			}
			digit := strings.IndexByte(punyDigits, s[0])
			s = s[1:]
			if digit < 0 || at > punyMaxDelta/punyBase || weight > punyMaxDelta/punyBase {
				return nil, false
			}
			at += digit * weight
			t := punyThreshold(k, bias)
			if digit < t {
				break
			}
			weight *= punyBase - t
		}
		bias = punyAdapt(at-old, len(out)+1, first)
		n += at / (len(out) + 1)
		at %= len(out) + 1
		if n > unicode.MaxRune {
			return nil, false
		}
		out = append(out[:at], append([]rune{rune(n)}, out[at:]...)...)
		at++
	}
	return out, true
}

// validALabel reports whether a lower-case label that begins with xn-- is the
// encoding of a plausible U-label: canonical punycode of lower-case letters,
// marks and digits, at least one of them outside ASCII. It is stricter than
// RFC 5891 about symbols (no emoji) and knows nothing of scripts.
func validALabel(label string) bool {
	encoded := label[len(acePrefix):]
	runes, ok := punyDecode(encoded)
	if !ok || len(runes) == 0 || unicode.IsMark(runes[0]) || runes[0] == '-' || runes[len(runes)-1] == '-' {
		return false
	}
	foreign := false
	for _, r := range runes {
		if r >= utf8.RuneSelf {
			foreign = true
		}
		if !validUnicode(r) {
			return false
		}
	}
	return foreign && punyEncode(string(runes)) == encoded
}

func validUnicode(r rune) bool {
	switch r {
	case '-', '\u00b7', '\u0375', '\u05f3', '\u05f4', '\u30fb', '\u200c', '\u200d':
		return true
	}
	if r < utf8.RuneSelf {
		return r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
	}
	return (unicode.IsLetter(r) || unicode.IsMark(r) || unicode.Is(unicode.Nd, r)) && unicode.ToLower(r) == r
}

// toASCII is the punycode spelling of a name, to be shown in an error. It maps
// case and the ideographic full stops, and does not normalise further.
func toASCII(name string) string {
	name = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".").Replace(strings.ToLower(name))
	labels := strings.Split(name, ".")
	for i, label := range labels {
		if !isASCII(label) {
			labels[i] = acePrefix + punyEncode(label)
		}
	}
	return strings.Join(labels, ".")
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
