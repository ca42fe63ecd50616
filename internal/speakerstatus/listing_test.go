package speakerstatus

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// However many Services share addresses, and however long their names are, the Speaker
// object has room for what its node reports.
func TestSpeakerStatusIsBounded(t *testing.T) {
	long := strings.Repeat("x", 63)
	for _, tt := range []struct {
		name               string
		addresses, sharers int
		listed             int // of the first address
	}{
		{"one address, 1,030 Services", 1, 1030, v1alpha1.MaxSpeakerServices},
		{"one address, one Service", 1, 1, 1},
		{"many addresses, many Services with long names", 5000, 40, v1alpha1.MaxSpeakerServices},
	} {
		var users []lb.ServiceKey
		for i := range tt.sharers {
			users = append(users, lb.ServiceKey{Namespace: long, Name: fmt.Sprintf("%s%04d", long[4:], i)})
		}
		r := Report{Users: map[netip.Addr][]lb.ServiceKey{}, Since: map[netip.Addr]time.Time{}}
		a := netip.MustParseAddr("2001:db8::1")
		for range tt.addresses {
			r.Owned = append(r.Owned, lb.L2Announcement{Addr: a, Interfaces: []string{"eth0"}})
			r.Users[a] = users
			a = a.Next()
		}
		got := r.layer2()
		if len(got) != min(tt.addresses, v1alpha1.MaxSpeakerLayer2) || len(got[0].Services) != tt.listed || int(got[0].ServiceCount) != tt.sharers {
			t.Errorf("%s: %d addresses, %d Services listed of %d", tt.name, len(got), len(got[0].Services), got[0].ServiceCount)
		}
		for _, s := range got {
			if int(s.ServiceCount) != tt.sharers {
				t.Fatalf("%s: %s has serviceCount %d", tt.name, s.Address, s.ServiceCount)
			}
		}
		body, err := json.Marshal(got)
		if err != nil || len(body) > 768<<10 {
			t.Errorf("%s: %d bytes, %v", tt.name, len(body), err)
		}
	}
}
