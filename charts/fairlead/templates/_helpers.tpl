{{- define "fairlead.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pods; they are immutable. Argument: list $ component. */}}
{{- define "fairlead.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ default $.Chart.Name $.Values.nameOverride }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of every object. Argument: list $ component. */}}
{{- define "fairlead.labels" -}}
{{- $ := index . 0 -}}
{{ include "fairlead.selector" . }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "fairlead.image" -}}
{{- $i := .Values.image -}}
{{- if $i.digest -}}
{{ $i.repository }}@{{ $i.digest }}
{{- else -}}
{{ $i.repository }}:{{ default .Chart.AppVersion $i.tag }}
{{- end -}}
{{- end -}}

{{/* Flags of both programs. Argument: list $ and the component's values. */}}
{{- define "fairlead.args" -}}
{{- $ := index . 0 -}}
{{- $own := index . 1 -}}
- --namespace={{ $.Release.Namespace }}
- --load-balancer-class={{ $.Values.loadBalancerClass }}
- --handle-classless={{ $.Values.handleClassless }}
- --log-level={{ $.Values.logLevel }}
- --metrics-bind-address={{ if $own.metricsPort }}:{{ end }}{{ $own.metricsPort }}
- --health-probe-bind-address=:{{ $own.probesPort }}
{{- end -}}

{{- define "fairlead.probe" -}}
httpGet: {path: {{ . }}, port: probes}
{{- end -}}
