{{/* Names and labels. 63 characters is the longest label value. */}}

{{- define "pushcluster-operator.name" -}}
{{- .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name, with the chart's in front of it unless it says so already. */}}
{{- define "pushcluster-operator.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pushcluster-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "pushcluster-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What selects the operator's pods. Never changes: a Deployment's selector cannot. */}}
{{- define "pushcluster-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pushcluster-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* For objects, not for pods: with the chart's version in a pod template, a change of an unrelated
     template would restart every operator pod. */}}
{{- define "pushcluster-operator.labels" -}}
{{ include "pushcluster-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: pushcluster
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* custom.metrics.k8s.io is the whole cluster's: whoever looks after one namespace does not take it. */}}
{{- define "pushcluster-operator.servesMetrics" -}}
{{- if and .Values.metricsApi.enabled (not .Values.watchNamespace) -}}
yes
{{- end -}}
{{- end -}}

{{- define "pushcluster-operator.metricsApi" -}}
{{- printf "%s-metrics-api" (include "pushcluster-operator.fullname" . | trunc 51 | trimSuffix "-") -}}
{{- end -}}

{{/* include "pushcluster-operator.image" (list . "gateway") */}}
{{- define "pushcluster-operator.image" -}}
{{- $root := index . 0 -}}
{{- $program := index . 1 -}}
{{- index $root.Values.images $program | default (printf "pushcluster/%s:%s" $program $root.Chart.AppVersion) -}}
{{- end -}}

{{/* The chart's own labels win: two of the same name would be no YAML. */}}
{{- define "pushcluster-operator.monitoringLabels" -}}
{{- toYaml (merge (include "pushcluster-operator.labels" . | fromYaml) .Values.monitoring.labels) -}}
{{- end -}}
