package bench

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/members"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// crowdEnv has this program be the crowd, with the gossip key that it names.
const crowdEnv = "FAIRLEAD_BENCH_CROWD"

func TestMain(m *testing.M) {
	if key := os.Getenv(crowdEnv); key != "" {
		if err := crowd(key); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// The large cluster: one real speaker, on n1, and those of the crowd.
const (
	crowdSize     = 99
	crowdServices = 10000
	crowdPort     = 7946
)

func crowdName(i int) string { return fmt.Sprintf("crowd-%02d", i) }

// crowdAddr is where the speaker of a node of the crowd is, i from 0.
func crowdAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(1 + i)}) }

// vipOf is the address of the i-th Service.
func vipOf(i int) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32([]byte{10, 200, 0, 0})+uint32(i))))
}

// crowd is the gossip of a hundred speakers but one, in one process: real members
// that announce nothing. Each node has as many addresses as the others, n1 too;
// when one dies each claims those to which it is elected.
func crowd(hexKey string) error {
	key, err := hex.DecodeString(hexKey)
	if err != nil {
		return err
	}
	claims := map[netip.Addr]election.Claim{}
	for i := range crowdServices {
		owner := "n1"
		if n := i % (crowdSize + 1); n < crowdSize {
			owner = crowdName(n)
		}
		claims[vipOf(i)] = election.Claim{Owner: owner, Epoch: 2}
	}
	all := map[netip.Addr]*members.Members{}
	for i := range crowdSize {
		m := members.New(members.Config{
			Node: crowdName(i), Bind: crowdAddr(i), Port: crowdPort, Keys: [][]byte{key}, Generation: 1, Failover: members.FailoverRelaxed, Log: logr.Discard(),
		})
		if i == 0 {
			m.Claim(claims)
		}
		if err := m.Start(); err != nil {
			return err
		}
		if i > 0 {
			m.Join(context.Background(), []netip.AddrPort{netip.AddrPortFrom(crowdAddr(0), crowdPort)})
		}
		m.SetFacts(members.Facts{Joined: true, Interfaces: []netif.Interface{{
			Name: "eth0", MAC: fmt.Sprintf("02:00:00:00:77:%02x", i), Up: true, Prefixes: []netip.Prefix{netip.PrefixFrom(crowdAddr(i), 24)},
		}}})
		go succeed(m, crowdName(i))
		all[crowdAddr(i)] = m
	}
	fmt.Println("all are there")
	return bury(all)
}

// bury stops the members whose addresses are taken away: they would go on to speak
// from the host's own address, by TCP.
func bury(all map[netip.Addr]*members.Members) error {
	for range time.Tick(100 * time.Millisecond) {
		host, err := netif.ReadHost()
		if err != nil {
			return err
		}
		for a, m := range all {
			if _, lives := host.Held[a]; lives {
				continue
			}
			delete(all, a)
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			_ = m.Stop(ctx) // it can tell nobody
			cancel()
		}
	}
	return nil
}

// succeed claims what the node is elected to when another dies. It must not take long: each
// real speaker has a machine of its own, and all claim within a moment.
func succeed(m *members.Members, me string) {
	var before []string
	for range m.Changed() {
		v := m.View()
		lost := len(before) - len(v.Alive)
		if slices.Equal(before, v.Alive) {
			continue
		}
		before = v.Alive
		if lost <= 0 || lost > 5 { // who sees all others die is the one that is cut off
			continue
		}
		load := election.NewLoad(len(v.Claims), len(v.Alive))
		for _, c := range v.Claims {
			load.Of[c.Owner]++
		}
		mine := map[netip.Addr]election.Claim{}
		for a, c := range v.Claims {
			if _, lives := slices.BinarySearch(v.Alive, c.Owner); !lives && election.Owner(a, v.Alive, v.Alive, c, load) == me {
				mine[a] = election.Claim{Owner: me, Epoch: c.Epoch + 1}
			}
		}
		if len(mine) > 0 {
			m.Claim(mine)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
