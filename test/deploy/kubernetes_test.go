package deploy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// manifests are the objects that `kubectl apply -k` sends.
type manifests struct {
	namespace corev1.Namespace
	account   corev1.ServiceAccount
	config    corev1.ConfigMap
	daemons   appsv1.DaemonSet
}

// build renders deploy/kubernetes. Keys that the API does not have are errors.
func build(t *testing.T) *manifests {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).
		Run(filesys.MakeFsOnDisk(), top+"/deploy/kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	var m manifests
	objects := map[string]any{
		"Namespace": &m.namespace, "ServiceAccount": &m.account, "ConfigMap": &m.config, "DaemonSet": &m.daemons,
	}
	for _, r := range resources.Resources() {
		object, ok := objects[r.GetKind()]
		if !ok {
			t.Errorf("there is a second %s, or none was expected", r.GetKind())
			continue
		}
		delete(objects, r.GetKind())
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(text, object); err != nil {
			t.Errorf("%s: %v", r.GetKind(), err)
		}
	}
	if len(objects) > 0 {
		t.Fatalf("objects are missing: %v", objects)
	}
	return &m
}

// What one object says of another one has to hold.
func TestKubernetesReferences(t *testing.T) {
	m := build(t)
	pod := m.daemons.Spec.Template
	for name, pair := range map[string][2]string{
		"namespace of the account":   {m.namespace.Name, m.account.Namespace},
		"namespace of the config":    {m.namespace.Name, m.config.Namespace},
		"namespace of the DaemonSet": {m.namespace.Name, m.daemons.Namespace},
		"account":                    {m.account.Name, pod.Spec.ServiceAccountName},
		"config":                     {m.config.Name, configOf(pod.Spec.Volumes)},
		"architecture":               {"amd64", pod.Spec.NodeSelector["kubernetes.io/arch"]},
		"system":                     {"linux", pod.Spec.NodeSelector["kubernetes.io/os"]},
	} {
		if pair[0] != pair[1] || pair[0] == "" {
			t.Errorf("%s: %q and %q", name, pair[0], pair[1])
		}
	}
	if diff := cmp.Diff(m.daemons.Spec.Selector.MatchLabels, pod.Labels); diff != "" || len(pod.Labels) == 0 {
		t.Errorf("the selector does not match the pods: %s", diff)
	}
	container := pod.Spec.Containers[0]
	volumes := make(map[string]bool)
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, mount := range container.VolumeMounts {
		if !volumes[mount.Name] {
			t.Errorf("%s mounts %s, which is no volume", mount.MountPath, mount.Name)
		}
		delete(volumes, mount.Name)
	}
	if len(volumes) > 0 {
		t.Errorf("volumes are not mounted: %v", volumes)
	}
	_, path, _ := strings.Cut(container.Args[1], "--config=/etc/otel-kprobe/")
	if !strings.Contains(m.config.Data[path], "listen: 127.0.0.1:9464") || container.LivenessProbe.HTTPGet.Port.IntValue() != 9464 {
		t.Errorf("the probes ask where nothing listens, or %q is not in the ConfigMap", path)
	}
}

func configOf(volumes []corev1.Volume) string {
	for _, v := range volumes {
		if v.ConfigMap != nil {
			return v.ConfigMap.Name
		}
	}
	return ""
}

// The container has the rights that tracing takes, and no others.
func TestKubernetesRights(t *testing.T) {
	m := build(t)
	spec := m.daemons.Spec.Template.Spec
	security := spec.Containers[0].SecurityContext
	var got []string
	for _, c := range security.Capabilities.Add {
		got = append(got, "CAP_"+string(c))
	}
	if diff := cmp.Diff(capabilities(), sorted(got)); diff != "" {
		t.Errorf("capabilities (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]corev1.Capability{"ALL"}, security.Capabilities.Drop); diff != "" {
		t.Errorf("capabilities that are dropped (-want +got):\n%s", diff)
	}
	if *security.Privileged || *security.AllowPrivilegeEscalation || !*security.ReadOnlyRootFilesystem {
		t.Error("the container has more rights than its capabilities")
	}
	if *m.account.AutomountServiceAccountToken || *spec.AutomountServiceAccountToken {
		t.Error("the pod has a token, and needs none")
	}
	if !spec.HostPID || !spec.HostNetwork || len(spec.Containers) != 1 {
		t.Error("the pod does not see the node's processes and network")
	}
	for _, mount := range spec.Containers[0].VolumeMounts {
		if !mount.ReadOnly && mount.MountPath != "/sys/fs/bpf" {
			t.Errorf("%s can be written", mount.MountPath)
		}
	}
}
