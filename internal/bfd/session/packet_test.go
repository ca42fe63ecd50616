package session

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// example is a packet in full; each fault below is made of it.
var example = Packet{
	Diag: DiagTimeout, State: Up, Poll: true, DetectMult: 3, MyDiscriminator: 0x01020304, YourDiscriminator: 0x05060708,
	DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 300 * time.Millisecond, RequiredMinEchoRx: time.Microsecond,
}

var exampleBytes = []byte{
	0x21, 0xe0, 3, 24, // version 1, diagnostic 1; Up, P; multiplier; length
	1, 2, 3, 4, 5, 6, 7, 8,
	0, 0, 0xc3, 0x50, 0, 4, 0x93, 0xe0, 0, 0, 0, 1,
}

func TestPacket(t *testing.T) {
	if got := example.Append(nil); !bytes.Equal(got, exampleBytes) {
		t.Errorf("append: got % x, want % x", got, exampleBytes)
	}
	for name, b := range map[string][]byte{"a packet": exampleBytes, "with padding": append(bytes.Clone(exampleBytes), 0, 0, 0)} {
		got, err := Parse(b)
		if diff := cmp.Diff(example, got); diff != "" || err != nil {
			t.Errorf("parse %s: %v, -want +got:\n%s", name, err, diff)
		}
	}
	for bit, want := range map[byte]Packet{
		flagPoll: {Poll: true}, flagFinal: {Final: true}, flagIndependent: {ControlPlaneIndependent: true}, flagDemand: {Demand: true},
	} {
		want.State, want.DetectMult, want.MyDiscriminator, want.YourDiscriminator = Init, 1, 1, 2
		b := want.Append(nil)
		got, err := Parse(b)
		if got != want || err != nil || b[1] != byte(Init)<<6|bit {
			t.Errorf("flag %#x: got %+v, %v, flags %#x", bit, got, err, b[1])
		}
	}
}

func TestIntervalsThatDoNotFit(t *testing.T) {
	p := example
	p.DesiredMinTx, p.RequiredMinRx = 2*time.Hour, -time.Second
	got, err := Parse(p.Append(nil))
	if err != nil || got.DesiredMinTx != maxMicroseconds*time.Microsecond || got.RequiredMinRx != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The reasons to discard a packet: RFC 5880, 6.8.6.
func TestFaults(t *testing.T) {
	change := func(at int, to ...byte) []byte {
		b := bytes.Clone(exampleBytes)
		copy(b[at:], to)
		return b
	}
	authenticated := append(change(1, 0xe4, 3, 26), 1, 2) // simple password, RFC 5880, 4.2
	for name, tt := range map[string]struct {
		packet []byte
		want   Fault
	}{
		"nothing":                      {nil, FaultShort},
		"a byte short":                 {exampleBytes[:23], FaultShort},
		"version 0":                    {change(0, 0x01), FaultVersion},
		"version 2":                    {change(0, 0x41), FaultVersion},
		"length below the minimum":     {change(3, 23), FaultLength},
		"length zero":                  {change(3, 0), FaultLength},
		"length beyond the payload":    {change(3, 25), FaultLength},
		"length too small with A":      {append(change(1, 0xe4, 3, 25), 1, 2), FaultLength},
		"A without a section":          {change(1, 0xe4), FaultLength},
		"multiplier zero":              {change(2, 0), FaultDetectMult},
		"multipoint":                   {change(1, 0xe1), FaultMultipoint},
		"my discriminator zero":        {change(4, 0, 0, 0, 0), FaultMyDiscriminator},
		"your discriminator zero, Up":  {change(8, 0, 0, 0, 0), FaultYourDiscriminator},
		"authenticated":                {authenticated, FaultAuthenticated},
		"your discriminator zero, A":   {append(append(change(1, 0xe4, 3, 26)[:8], 0, 0, 0, 0), authenticated[12:]...), FaultYourDiscriminator},
		"your discriminator 0 in Init": {append(append(change(1, 0x80)[:8], 0, 0, 0, 0), exampleBytes[12:]...), FaultYourDiscriminator},
	} {
		if _, err := Parse(tt.packet); err != tt.want { //nolint:errorlint // it is promised to be a Fault itself
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	for name, flags := range map[string]byte{"Down": 0x40, "AdminDown": 0x00} {
		b := append(append(change(1, flags)[:8], 0, 0, 0, 0), exampleBytes[12:]...)
		if _, err := Parse(b); err != nil {
			t.Errorf("your discriminator zero in %s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(exampleBytes)
	f.Add(append(bytes.Clone(exampleBytes), 1, 2, 3))
	f.Add(exampleBytes[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			if f, ok := err.(Fault); !ok || f == 0 || p != (Packet{}) { //nolint:errorlint // as above
				t.Fatalf("fault %#v with packet %+v", err, p)
			}
			return
		}
		if got := p.Append(nil); !bytes.Equal(got[4:], b[4:PacketLen]) || !bytes.Equal(got[:3], b[:3]) {
			t.Fatalf("parsed % x, appended % x", b, got)
		}
		s := New(1, Params{DesiredMinTx: time.Second, RequiredMinRx: time.Second, DetectMult: 3}, func() float64 { return 0.5 })
		now := time.Unix(0, 0)
		s.Receive(now, p)
		if at, ok := s.Deadline(); ok && !at.IsZero() && at.Before(now) {
			t.Fatalf("deadline %v before %v", at, now)
		}
	})
}
