// Package bundle packs what somebody needs who is to help, and was not there: an
// archive of objects, reports and logs. No Secret is read, and no annotation that
// is none of Fairlead's business is kept.
package bundle

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/plugin/addresses"
	"github.com/fairlead-lb/fairlead/internal/plugin/cli"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/doctor"
	"github.com/fairlead-lb/fairlead/internal/plugin/status"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
	"github.com/fairlead-lb/fairlead/internal/version"
)

// How much of a log is taken.
const (
	logLines = 5000
	logBytes = 4 << 20
)

// file is one in the archive.
type file struct {
	name string
	body []byte
}

// more is what is read for a bundle beside what reports need.
type more struct {
	communities []v1alpha1.Community
	profiles    []v1alpha1.BFDProfile
	pods        []corev1.Pod
	secrets     []metav1.PartialObjectMetadata // their names: the API server sends nothing else
	events      []corev1.Event
	logs        []file
}

// contents returns the files of the archive.
func contents(c *cluster.Cluster, m more) ([]file, error) {
	reports := []file{
		{"version.txt", fmt.Appendf(nil, "plugin %s\nread %s\n", version.String(), c.Read.UTC().Format(time.RFC3339))},
		report("status.txt", status.New(c)), report("doctor.txt", doctor.New(c)), report("addresses.txt", addresses.New(c, "")),
	}
	var out []file
	add := func(name string, list []client.Object) error {
		body, err := documents(list)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(body) > 0 {
			out = append(out, file{path.Join("objects", name+".yaml"), body})
		}
		return nil
	}
	services := slices.DeleteFunc(slices.Clone(c.Services), func(s corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeLoadBalancer })
	err := errors.Join(
		add("ipaddresspools", pointers(c.Pools)), add("ipaddressclaims", pointers(c.Claims)),
		add("l2advertisements", pointers(c.L2Advertisements)), add("bgpadvertisements", pointers(c.BGPAdvertisements)),
		add("bgppeers", pointers(c.BGPPeers)), add("bfdprofiles", pointers(m.profiles)), add("communities", pointers(m.communities)),
		add("speakers", pointers(c.Speakers)), add("services", pointers(services)), add("nodes", pointers(c.Nodes)),
		add("namespaces", pointers(c.Namespaces)), add("pods", pointers(m.pods)), add("events", pointers(m.events)),
	)
	if len(m.secrets) > 0 {
		var names bytes.Buffer
		for _, s := range m.secrets {
			fmt.Fprintf(&names, "%s/%s\n", s.Namespace, s.Name)
		}
		out = append(out, file{"objects/secrets-names-only.txt", names.Bytes()})
	}
	if len(c.Unread) > 0 {
		out = append(out, file{"unread.txt", []byte(strings.Join(c.Unread, "\n") + "\n")})
	}
	return slices.Concat(reports, out, m.logs), err
}

// report renders a report as a person would see it with -o wide.
func report(name string, r cli.Report) file {
	var b bytes.Buffer
	r.Text(term.NewPage(&b), true)
	return file{name, b.Bytes()}
}

func pointers[T any, P interface {
	*T
	client.Object
}](list []T) []client.Object {
	out := make([]client.Object, len(list))
	for i := range list {
		out[i] = P(&list[i])
	}
	return out
}

// documents writes objects as YAML, cleaned.
func documents(list []client.Object) ([]byte, error) {
	scheme := kube.NewScheme()
	var out []byte
	for _, o := range list {
		cleaned, err := clean(o, scheme)
		if err != nil {
			return nil, err
		}
		body, err := yaml.Marshal(cleaned)
		if err != nil {
			return nil, err
		}
		out = append(append(out, "---\n"...), body...)
	}
	return out, nil
}

// write packs the files below a folder.
func write(w io.Writer, folder string, files []file, at time.Time) error {
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	for _, f := range files {
		head := &tar.Header{Name: path.Join(folder, f.name), Mode: 0o600, Size: int64(len(f.body)), ModTime: at, Typeflag: tar.TypeReg}
		if err := archive.WriteHeader(head); err != nil {
			return err
		}
		if _, err := archive.Write(f.body); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), zip.Close())
}

// gather reads what reports do not need. What cannot be had is noted.
func gather(ctx context.Context, c client.Client, pods kubernetes.Interface, known *cluster.Cluster) more {
	var m more
	var communities v1alpha1.CommunityList
	var profiles v1alpha1.BFDProfileList
	var list corev1.PodList
	var events corev1.EventList
	secrets := metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"}}
	here := client.InNamespace(known.Install.Namespace)
	for _, read := range []struct {
		what string
		err  error
	}{
		{"Communities", c.List(ctx, &communities)},
		{"BFDProfiles", c.List(ctx, &profiles)},
		{"Pods", c.List(ctx, &list, here)},
		{"Events", c.List(ctx, &events)},
		{"names of Secrets", c.List(ctx, &secrets, here)},
	} {
		if read.err != nil {
			known.Unread = append(known.Unread, fmt.Sprintf("%s: %v", read.what, read.err))
		}
	}
	m.communities, m.profiles, m.pods, m.secrets = communities.Items, profiles.Items, list.Items, secrets.Items
	m.events = slices.DeleteFunc(events.Items, func(e corev1.Event) bool { return !concerns(known, &e) })
	for i := range m.pods {
		m.logs = append(m.logs, logsOf(ctx, pods, &m.pods[i], known)...)
	}
	return m
}

// concerns reports whether the event is about Fairlead or a Service that it may
// serve.
func concerns(c *cluster.Cluster, e *corev1.Event) bool {
	if e.Namespace == c.Install.Namespace || e.InvolvedObject.GroupVersionKind().Group == v1alpha1.GroupVersion.Group {
		return true
	}
	return e.InvolvedObject.Kind == "Service" || e.InvolvedObject.Kind == "Node"
}

// logsOf returns the ends of the logs of a pod's containers, and of those before
// them that ended.
func logsOf(ctx context.Context, pods kubernetes.Interface, pod *corev1.Pod, known *cluster.Cluster) (out []file) {
	for _, s := range pod.Status.ContainerStatuses {
		for _, previous := range []bool{false, true} {
			if previous && s.RestartCount == 0 {
				continue
			}
			body, err := pods.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
				Container: s.Name, Previous: previous, TailLines: ptr.To[int64](logLines), LimitBytes: ptr.To[int64](logBytes), Timestamps: true,
			}).DoRaw(ctx)
			if err != nil {
				known.Unread = append(known.Unread, fmt.Sprintf("log of %s in pod %s/%s: %v", s.Name, pod.Namespace, pod.Name, err))
				continue
			}
			name := pod.Name + "-" + s.Name
			if previous {
				name += "-previous"
			}
			out = append(out, file{path.Join("logs", name+".log"), body})
		}
	}
	return out
}

// Command returns the command.
func Command(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := cli.New(flags, streams)
	to := ""
	cmd := &cobra.Command{
		Use: "bundle", Args: cobra.NoArgs,
		Short: "Pack an archive for who is to help: objects, reports, logs, without secrets",
		Long: "Pack an archive for who is to help: Fairlead's objects, LoadBalancer Services, nodes, events, what status and\n" +
			"doctor say, and the logs of Fairlead's pods. No Secret is read, and annotations of others are left out. It has names and\naddresses of the cluster: check it before you send it.",
		Example: `  kubectl fairlead bundle -f fairlead.tar.gz`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return pack(cmd.Context(), o, flags, to) },
	}
	o.Register(cmd)
	cmd.Flags().StringVarP(&to, "file", "f", "", "where to write it; - is the standard output (default fairlead-bundle-TIME.tar.gz)")
	return cmd
}

// pack reads the cluster and writes the archive.
func pack(ctx context.Context, o *cli.Options, flags *genericclioptions.ConfigFlags, to string) error {
	c, err := o.Client()
	if err != nil {
		return err
	}
	known, err := o.Read(ctx, c)
	if err != nil {
		return err
	}
	cfg, err := flags.ToRESTConfig()
	if err != nil {
		return err
	}
	pods, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("reach the API server: %w", err)
	}
	m := gather(ctx, c, pods, known)
	files, err := contents(known, m)
	if err != nil {
		return err
	}
	folder := "fairlead-bundle-" + known.Read.UTC().Format("20060102-150405")
	if to == "-" {
		return write(o.Out, folder, files, known.Read)
	}
	to = cmp.Or(to, folder+".tar.gz")
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	if err := errors.Join(write(f, folder, files, known.Read), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	fmt.Fprintf(o.Out, "%s: %d files, without Secrets\n", to, len(files))
	for _, u := range known.Unread {
		fmt.Fprintf(o.ErrOut, "left out, as it could not be read: %s\n", u)
	}
	return nil
}
