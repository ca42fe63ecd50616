package lab

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Namespace is where Fairlead is installed.
const Namespace = "fairlead-system"

// The users that the API server knows. Fairlead's programs come as the service
// accounts they have in a cluster, so their RBAC is put to the test as well.
const (
	Admin      = "admin"
	Controller = "controller"
	Speaker    = "speaker"
	kubeProxy  = "kube-proxy"
	scheduler  = "scheduler"
	manager    = "controller-manager"
	kubelet    = "kubelet"
)

type user struct {
	name, username string
	groups         []string
}

var users = []user{
	{Admin, "admin", []string{"system:masters"}},
	{Controller, "system:serviceaccount:" + Namespace + ":fairlead-controller", []string{"system:serviceaccounts", "system:serviceaccounts:" + Namespace}},
	{Speaker, "system:serviceaccount:" + Namespace + ":fairlead-speaker", []string{"system:serviceaccounts", "system:serviceaccounts:" + Namespace}},
	{kubeProxy, "system:kube-proxy", nil},
	{scheduler, "system:kube-scheduler", nil},
	{manager, "system:kube-controller-manager", nil},
	// What a kubelet may not is none of the lab's questions.
	{kubelet, "kubelet", []string{"system:masters"}},
}

// startControlPlane starts etcd and the API server and waits until the latter
// is ready, which includes the default roles.
func (l *Lab) startControlPlane(ctx context.Context) error {
	keys, err := newKeys(net.ParseIP("127.0.0.1"), l.ControlPlane.IPv4.AsSlice(), l.ControlPlane.IPv6.AsSlice(), net.ParseIP("10.96.0.1"))
	if err != nil {
		return err
	}
	if err := keys.write(l.Dir); err != nil {
		return err
	}
	if err := l.writeUsers(keys.ca); err != nil {
		return err
	}
	if err := l.startEtcd(); err != nil {
		return err
	}
	if err := l.StartAPI(ctx); err != nil || !l.opts.Pods {
		return err
	}
	return l.startManagers()
}

func (l *Lab) startEtcd() error {
	const clients, peers = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	_, err := l.ControlPlane.Start(Etcd, filepath.Join(l.assets, Etcd),
		"--data-dir", filepath.Join(l.Dir, "etcd"),
		"--unsafe-no-fsync", // nobody needs this data after a power cut
		"--listen-client-urls", clients, "--advertise-client-urls", clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
		"--initial-cluster", "default="+peers,
		"--log-level", "warn")
	return err
}

// StartAPI starts the API server, after KillAPI for instance, and waits until
// it is ready.
func (l *Lab) StartAPI(ctx context.Context) error {
	file := func(name string) string { return filepath.Join(l.Dir, name) }
	args := []string{
		filepath.Join(l.assets, APIServer),
		"--etcd-servers", "http://127.0.0.1:2379",
		"--bind-address", "::", "--secure-port", fmt.Sprint(apiServerPort),
		"--advertise-address", l.ControlPlane.IPv4.String(),
		"--tls-cert-file", file("apiserver.crt"), "--tls-private-key-file", file("apiserver.key"),
		"--token-auth-file", file("tokens.csv"),
		"--authorization-mode", "RBAC",
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", file("serviceaccount.key"),
		"--service-account-signing-key-file", file("serviceaccount.key"),
		"--service-cluster-ip-range", serviceCIDRs,
		"--kubelet-preferred-address-types", "InternalIP",
		"--allow-privileged",
		// A test may ask for more at once than a small cluster's people would.
		"--max-requests-inflight", "3000", "--max-mutating-requests-inflight", "1000",
		"--profiling=false",
	}
	if !l.opts.Pods {
		// There are no pods for which a token would have to be mounted.
		args = append(args, "--disable-admission-plugins", "ServiceAccount")
	}
	if l.opts.Audit {
		policy := "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"
		if err := os.WriteFile(file("audit-policy.yaml"), []byte(policy), 0o600); err != nil {
			return err
		}
		args = append(args, "--audit-policy-file", file("audit-policy.yaml"), "--audit-log-path", l.logFile("audit"))
	}
	p, err := l.ControlPlane.Start(APIServer, args...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	web, err := rest.HTTPClientFor(l.REST(Admin))
	if err != nil {
		return err
	}
	return p.wait(ctx, "ready", func(ctx context.Context) error {
		return getReadyz(ctx, web, l.apiURL())
	})
}

func getReadyz(ctx context.Context, web *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := web.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz: %s", res.Status)
	}
	return nil
}

func (l *Lab) apiURL() string {
	return fmt.Sprintf("https://%s:%d", l.ControlPlane.IPv4, apiServerPort)
}

// writeUsers writes the API server's list of tokens, and a kubeconfig for each user.
func (l *Lab) writeUsers(ca []byte) error {
	var tokens strings.Builder
	for _, u := range users {
		token := rand.Text()
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", token, u.username, u.name, strings.Join(u.groups, ","))
		config := clientcmdapi.NewConfig()
		config.Clusters["lab"] = &clientcmdapi.Cluster{Server: l.apiURL(), CertificateAuthorityData: ca}
		config.AuthInfos[u.name] = &clientcmdapi.AuthInfo{Token: token}
		config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: u.name}
		config.CurrentContext = "lab"
		if err := clientcmd.WriteToFile(*config, l.Kubeconfig(u.name)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(l.Dir, "tokens.csv"), []byte(tokens.String()), 0o600)
}

// Kubeconfig is the path of a user's kubeconfig (Admin, Controller, Speaker).
// It works for programs on the lab's hosts; in this process, use REST.
func (l *Lab) Kubeconfig(user string) string {
	return filepath.Join(l.Dir, "kubeconfig-"+user)
}

// REST is the configuration for a client in this process, whose connections
// begin at the control plane, and whose requests are not throttled. It panics
// if there is no such user.
func (l *Lab) REST(user string) *rest.Config {
	config, err := clientcmd.BuildConfigFromFlags("", l.Kubeconfig(user))
	if err != nil {
		panic(fmt.Sprintf("lab: user %q: %v", user, err))
	}
	config.Dial = l.ControlPlane.Dial
	config.QPS = -1
	return config
}

// API is a client for the admin that asks the API server each time. It is one
// and the same for all, so that a write costs no new connection.
func (l *Lab) API() (client.Client, error) { return l.api() }

// Kubectl runs kubectl as the admin, on the control plane.
func (l *Lab) Kubectl(ctx context.Context, args ...string) ([]byte, error) {
	return l.asAdmin(ctx, Kubectl, args)
}

// Helm runs helm as the admin, on the control plane, in a lab with Options.Pods.
func (l *Lab) Helm(ctx context.Context, args ...string) ([]byte, error) {
	return l.asAdmin(ctx, Helm, args)
}

func (l *Lab) asAdmin(ctx context.Context, program string, args []string) ([]byte, error) {
	env := []string{"KUBECONFIG=" + l.Kubeconfig(Admin), "HOME=" + l.Dir} // HOME for its cache
	return l.ControlPlane.execEnv(ctx, env, nil, append([]string{filepath.Join(l.assets, program)}, args...)...)
}

// FreezeAPI makes the API server hang: connections stay, answers do not come.
func (l *Lab) FreezeAPI() error { return l.apiServer((*Process).Freeze) }

// ThawAPI ends FreezeAPI.
func (l *Lab) ThawAPI() error { return l.apiServer((*Process).Thaw) }

// KillAPI makes the API server crash: connections end, new ones are refused.
func (l *Lab) KillAPI() error { return l.apiServer((*Process).Kill) }

func (l *Lab) apiServer(f func(*Process) error) error {
	if p := l.Process(APIServer); p != nil {
		return f(p)
	}
	return fmt.Errorf("lab %s: the API server was never started", l.ID)
}
